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

    def of(self, ids: Sequence[int]) -> list[int]:
        """The bytes of each token of a text; their sum is that of the decoded text's.

        A character that several tokens make up counts for each as many bytes as it holds. One that
        the text's start or end cuts counts as U+FFFD, 3 bytes, as it is decoded.
        """
        alone = [self._text_alone(number) for number in ids]
        total = self._bytes(ids)
        sizes = [len(text.encode()) for text in alone]
        if sum(sizes) == total and not any(_BROKEN in text for text in alone):
            return sizes
        sizes = self._in_groups(ids)
        if sizes:
            sizes[-1] += total - sum(sizes)
        return sizes

    def _in_groups(self, ids: Sequence[int]) -> list[int]:
        """The bytes of each token, read with the tokens that end its last character."""
        sizes: list[int] = []
        before: Sequence[int] = ()
        first = 0
        for end in range(1, len(ids) + 1):
            group = ids[first:end]
            text = self._tokenizer.decode_behind(before, group)
            if text.endswith(_BROKEN) and end < len(ids):
                continue
            sizes += self._within(group, len(text.encode()))
            before, first = group, end
        return sizes

    def _within(self, group: Sequence[int], total: int) -> list[int]:
        """The bytes of each token of a group that has `total`."""
        if len(group) == 1:
            return [total]
        names = [self._tokenizer.name_of(number) or "" for number in group]
        # A byte-level vocabulary writes each byte as a character, one with a fallback as <0xE2>.
        spelled = [1 if _is_byte(name) else len(name) for name in names]
        if sum(spelled) == total:
            return spelled
        sizes = [self._bytes(group[:end]) for end in range(len(group))]
        return [after - here for here, after in zip(sizes, [*sizes[1:], total], strict=True)]

    def _text_alone(self, number: int) -> str:
        if number not in self._alone:
            self._alone[number] = self._tokenizer.decode([number])
        return self._alone[number]

    def _bytes(self, ids: Sequence[int]) -> int:
        return len(self._tokenizer.decode(ids).encode())


def _is_byte(name: str) -> bool:
    return len(name) == 6 and name.startswith("<0x") and name.endswith(">")
