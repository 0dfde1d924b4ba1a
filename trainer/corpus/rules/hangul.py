"""Korean cut at a right edge wherever it falls, as terminal browsers do: within words, too."""

import re
from functools import cached_property

HANGUL = re.compile("[\uac00-\ud7a3]")
LEAST_PAIRS, AT_EDGE = 5, 0.7
"""Pairs of lines, and the share of them that end at the edge, which tell it from words kept whole:
of these a third of the lines do."""
EDGE = 0.95
"""The quantile of the lines' widths that is taken for the edge."""
PARTS = 2
"""Syllables by which the ends of words are compared."""


class HangulWords:
    """Tells by the words within the lines whether one goes on over a line's end."""

    def __init__(self, lines: list[str]):
        self._lines = lines

    @cached_property
    def cut_anywhere(self) -> bool:
        """Whether lines end within words."""
        widths = sorted(
            _columns(line)
            for line, following in zip(self._lines, self._lines[1:], strict=False)
            if HANGUL.match(line[-1:]) and HANGUL.match(following.lstrip())
        )
        if len(widths) < LEAST_PAIRS:
            return False
        edge = widths[int(EDGE * (len(widths) - 1))]
        return sum(width >= edge - 1 for width in widths) >= AT_EDGE * len(widths)

    def go_on(self, left: str, right: str) -> bool:
        """Whether the last word of a line and the first of the next one are one."""
        last, first = left.split()[-1], right.split(None, 1)[0]
        words = self._words
        if last + first in words:
            return True
        if last in words and first in words:
            return False
        return last[-PARTS:] not in self._ends or first[:PARTS] not in self._starts

    @cached_property
    def _words(self) -> frozenset[str]:
        """Those that stand whole within the lines."""
        return frozenset(word for line in self._lines for word in line.split()[1:-1])

    @cached_property
    def _starts(self) -> frozenset[str]:
        return frozenset(word[:PARTS] for word in self._words)

    @cached_property
    def _ends(self) -> frozenset[str]:
        return frozenset(word[-PARTS:] for word in self._words)


def _columns(line: str) -> int:
    return sum(2 if HANGUL.match(one) or "\u2e80" <= one <= "\uffef" else 1 for one in line)
