"""How a line of a paragraph ends: at the right edge or before, within a sentence or behind one."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from trainer.corpus.rules.joining import SPACELESS
from trainer.corpus.rules.paragraphs import ends_sentence

SLACK = 0.06
"""Share of the width by which lines may end early: authors, and `fmt`, do not fill all of them."""
HYPHENS = "-\u2010\u2011\u00ad"
NEAR, NEAR_MIXED = 0.8, 0.6
"""Share of the width that a line has which an author broke early in the midst of a sentence."""
OPENING = re.compile(r"[\"'“‘«‹(\[*_„—–―-]+")  # noqa: RUF001
FIRST_WORD = re.compile("[\\S\u00a0\u2007\u202f]+")
"""Up to where a line may be broken: no-break spaces do not part words."""
LONGEST_UNSPACED = 12
"""Columns of a word of a script that sets no spaces, as far as it is known."""
CLOSING = re.compile("[、。，．！？」』）》：；…]{0,2}")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class LineEnd:
    """The end of a line within a paragraph."""

    length: int
    """Where the line ends, in columns or characters."""
    needed: int
    """Where it would end with the next line's first word."""
    ended: bool
    """The line ends with a full stop or the like."""
    letter: bool
    """It ends with a letter or a digit, or a hyphen behind one."""
    goes_on: bool
    """The next line begins with a small letter, or one of a script without capitals."""
    small: bool
    """It begins with a small letter."""
    capital: bool
    """It begins with a capital, and not with the word I."""
    mixed: bool
    """A Latin word and a script without spaces meet at it, where authors set a space."""
    repeated: bool
    """It begins with the two words with which this one begins."""

    def is_full(self, edge: int, slack: float = SLACK) -> bool:
        """Whether the next line's first word would have passed the right edge."""
        return self.needed > edge - int(slack * edge)

    def is_near(self, edge: int) -> bool:
        """Whether it would not, but the line is nearly as long, and the sentence goes on."""
        if self.ended or self.is_full(edge):
            return False
        return (self.small and self.length >= NEAR * edge) or (
            self.mixed and self.length >= NEAR_MIXED * edge
        )


def line_end(line: str, following: str, measure: Callable[[str], int]) -> LineEnd:
    """How `line` ends before `following`; `measure`: the width of a line."""
    rest = following.lstrip()
    word = FIRST_WORD.match(rest)
    first = word[0] if word else ""
    needed = length = measure(line.expandtabs(8))
    if SPACELESS.match(rest):
        spaced = "\u0e00" <= rest[0] <= "\u17ff"
        closing = CLOSING.match(rest, 1)
        unit = first[:LONGEST_UNSPACED] if spaced else rest[: closing.end() if closing else 1]
        needed += measure(unit) + (not SPACELESS.match(line[-1:]))
    else:
        needed += 1 + measure(first)
    start = OPENING.sub("", rest, count=1)[:2]
    capital = start[:1].isupper() and start not in ("I", "I ", "I'", "I’")  # noqa: RUF001
    goes_on = start[:1].isalpha() and not start[:1].isupper()
    ended = ends_sentence(line)
    last = line.rstrip(HYPHENS)[-1:] or " "
    letter = last.isalnum() or unicodedata.category(last)[0] == "M"
    same = line.split(None, 2)[:2] == following.split(None, 2)[:2]
    small = start[:1].islower()
    mixed = bool(SPACELESS.match(rest)) != bool(SPACELESS.match(line[-1:]))
    return LineEnd(length, needed, ended, letter, goes_on, small, capital, mixed, same)


def columns(line: str) -> int:
    """The width of a line on a terminal: wide letters take two columns, combining marks none."""
    return len(line) if line.isascii() else sum(map(_columns, line))


@cache
def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
