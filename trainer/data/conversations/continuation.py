"""The ids of a text that goes on where another one ended."""

from collections.abc import Callable

Encode = Callable[[str], list[int]]


def continued(encode: Encode, text: str) -> list[int]:
    """The ids of a text behind another one, which is encoded by itself, as a prompt is.

    A tokenizer of SentencePiece's kind puts a space before every text, which does not stand in the
    middle of one. There the text is encoded behind a line break, and the line break's ids are taken
    away again.
    """
    if not text or not _puts_space(encode):
        return encode(text)
    line_break = encode("\n")
    ids = encode("\n" + text)
    return ids[len(line_break) :] if ids[: len(line_break)] == line_break else encode(text)


def _puts_space(encode: Encode) -> bool:
    line_break, behind = encode("\n"), encode("\nx")
    return behind[: len(line_break)] == line_break and behind[len(line_break) :] != encode("x")
