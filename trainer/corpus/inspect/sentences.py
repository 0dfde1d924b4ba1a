"""Sentences of a text by their ends alone: for counting, where a rare cut too many costs little."""

import re
from collections.abc import Iterator

_END = re.compile(
    r"(?<=[.!?])[\"')\]\u201d\u2019]*\s+(?=[\"'(\[\u201c\u2018]*[^\W_a-z])|\n\s*\n|(?<=[\u3002\uff01\uff1f])"
)


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends, white space around it aside.

    A sentence ends behind `.`, `!` or `?` where no lower-case letter follows, or at an empty line;
    an abbreviation may end one too.
    """
    start = 0
    for border in _END.finditer(text):
        yield from _trimmed(text, start, border.start())
        start = border.end()
    yield from _trimmed(text, start, len(text))


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    part = text[start:end]
    if part.strip():
        yield start + len(part) - len(part.lstrip()), end - (len(part) - len(part.rstrip()))
