"""How many bytes of text each token stands for, tokens that are parts of characters included."""

from collections.abc import Sequence

from trainer.data.tokenizer import Tokenizer

_BROKEN = "\ufffd"
"""What bytes that are no whole character are decoded to."""


class TokenSizes:
    """Counts the UTF-8 bytes of the tokens of texts, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._alone: dict[int, str] = {}

    def of(self, ids: Sequence[int], before: Sequence[int] = ()) -> list[int]:
        """The bytes of each token of a text; their sum is that of the text's.

        `before`: what stands on their left in the same text, where they do not begin it.

        A character that several tokens make up counts for each as many bytes as it holds, where the
        text's start or end cuts it too: the parts of a text have as many bytes as the whole.
        """
        if any(map(self._cuts, before)):
            # What is decoded behind a part of a character may be a part of that; and a vocabulary
            # in which a token can be one takes no space off a text's start.
            before = ()
        alone = [self._text_alone(number) for number in ids]
        whole = self._tokenizer.decode_behind(before, ids)
        total = len(whole.encode())
        sizes = [len(text.encode()) for text in alone]
        if sum(sizes) == total and not any(_BROKEN in text for text in alone):
            return sizes
        sizes = self._in_groups(ids, before)
        if sizes and _BROKEN not in whole:
            sizes[-1] += total - sum(sizes)
        return sizes

    def _in_groups(self, ids: Sequence[int], before: Sequence[int]) -> list[int]:
        """The bytes of each token, read with the tokens that end its last character."""
        sizes: list[int] = []
        first = 0
        for end in range(1, len(ids) + 1):
            group = ids[first:end]
            text = self._tokenizer.decode_behind(before, group)
            if text.endswith(_BROKEN) and end < len(ids):
                continue
            if _BROKEN in text:
                sizes += [
                    self._held_by(number, group[:index] or before)
                    for index, number in enumerate(group)
                ]
            else:
                sizes += self._within(group, len(text.encode()))
            before, first = group, end
        return sizes

    def _within(self, group: Sequence[int], total: int) -> list[int]:
        """The bytes of each token of a group that has `total`."""
        if len(group) == 1:
            return [total]
        spelled = [self._spelled(number) for number in group]
        if sum(spelled) == total:
            return spelled
        sizes = [self._bytes(group[:end]) for end in range(len(group))]
        return [after - here for here, after in zip(sizes, [*sizes[1:], total], strict=True)]

    def _held_by(self, number: int, before: Sequence[int]) -> int:
        """The bytes of a token beside one that holds a part of a character, or U+FFFD itself."""
        # Bytes in a row with a part of a character are decoded to U+FFFD, each of them.
        if _BROKEN in self._text_alone(number) or _is_byte(self._tokenizer.name_of(number) or ""):
            return self._spelled(number)
        return len(self._tokenizer.decode_behind(before, [number]).encode())

    def _spelled(self, number: int) -> int:
        """The bytes that a token's name spells."""
        name = self._tokenizer.name_of(number) or ""
        if _BROKEN in name:
            return len(name.encode())
        # A byte-level vocabulary writes each byte as a character, one with a fallback as <0xE2>.
        return 1 if _is_byte(name) else len(name)

    def _cuts(self, number: int) -> bool:
        """Whether a token of a byte-level vocabulary holds a part of a character."""
        name = self._tokenizer.name_of(number) or ""
        return _BROKEN in self._text_alone(number) and not _is_byte(name)

    def _text_alone(self, number: int) -> str:
        if number not in self._alone:
            self._alone[number] = self._tokenizer.decode([number])
        return self._alone[number]

    def _bytes(self, ids: Sequence[int]) -> int:
        return len(self._tokenizer.decode(ids).encode())


def _is_byte(name: str) -> bool:
    return len(name) == 6 and name.startswith("<0x") and name.endswith(">")
