"""Unwrapping: the lines of hard-wrapped paragraphs joined, everything else as it stands.

A text is hard-wrapped where its paragraphs' lines end because the next word would have passed one
right edge, and mostly in the midst of a sentence. Both are looked at: verse ends its lines early,
or begins them with capitals; a text with a paragraph or a sentence a line ends them with a full
stop. A text of which this is not so, and within one of which it is each block of which it is not,
stays as it is.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from trainer.corpus.rules.joining import SPACELESS, Joiner
from trainer.corpus.rules.paragraphs import Paragraph, ends_sentence, paragraphs_of

NARROWEST, WIDEST = 34, 160
"""Columns of the right edge that are taken for one."""
USUAL = range(55, 101)
"""Right edges of most wrapped texts; others need more evidence."""
SLACK = 0.06
"""Share of the width by which lines may end early: authors, and `fmt`, do not fill all of them."""
LETTERS = 0.6
"""Least share of full lines that end with a letter: in prose five of six do, in verse a third."""
NEAR = 0.8
"""Share of the width that a line has which an author broke early in the midst of a sentence."""
EDGE = 0.95
"""The quantile of the lines' ends that is taken for the right edge: some lines pass it."""
CODE = re.compile(
    r"[{};\\]$|\):$|^\s*[\w.\[\]]+ ?[-+*/|&]?= ?\S|\s(?:==|!=|=>|->)\s|"
    r"^\s*(?:class|def|elif|else|except|finally|for|if|try|while|with)\b.*:$|"
    r"^\s*(?:from [\w.]+ )?import \w|^\s*(?:return|raise|assert|yield)\b|^\s*@\w+|^\s*#"
)
"""Lines of source code."""
OPENING = re.compile(r"[\"'“‘«‹(\[*_„—–―-]+")  # noqa: RUF001
FIRST_WORD = re.compile(r"\S+")
LONGEST_UNSPACED = 12
"""Columns of a word of a script that sets no spaces, as far as it is known."""
CLOSING = re.compile("[、。，．！？」』）》：；…]{0,2}")  # noqa: RUF001


def unwrap(text: str) -> tuple[str, int]:
    """The text with its hard-wrapped paragraphs on one line each, and the number of lines joined.

    `text` has no white space at line ends. The result is a fixed point: unwrapping it joins none.
    """
    joined = 0
    while count := text.count("\n"):
        text = _unwrapped(text)
        joined += count - text.count("\n")
        if text.count("\n") == count:
            break
    return text, joined


def _unwrapped(text: str) -> str:
    lines = text.split("\n")
    paragraphs = paragraphs_of(lines)
    # An editor fills columns, a program often characters.
    measures = (len,) if text.isascii() else (columns, len)
    chosen = max((_wrapped(lines, paragraphs, one) for one in measures), key=_full_lines)
    return "\n".join(_joined(lines, chosen)) if chosen else text


@dataclass(frozen=True, slots=True)
class _Break:
    """The end of a line within a paragraph."""

    full: bool
    """The next line's first word would have passed the right edge."""
    near: bool
    """It would not, but the line is nearly as long as others, and the sentence goes on."""
    ended: bool
    """The line ends with a full stop or the like."""
    letter: bool
    """It ends with a letter or a digit."""
    case: int
    """The next line begins with: a small letter 1, a capital -1, anything else 0."""


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """A paragraph and its line ends, at some right edge."""

    paragraph: Paragraph
    breaks: list[_Break]

    @property
    def is_wrapped(self) -> bool:
        """Whether nearly every line is full, or ends a sentence."""
        breaks = self.breaks
        full = sum(one.full for one in breaks)
        near = sum(one.near for one in breaks)
        ended = sum(one.ended and not one.full for one in breaks)
        broken = len(breaks) - full - near - ended
        if full <= ended or full < 2 * near or broken * 8 > len(breaks):
            return False
        if len(breaks) > 1 and sum(one.ended for one in breaks) * 2 > len(breaks):
            return False
        lower, upper = _cases(breaks)
        if len(breaks) >= 4 and sum(one.letter for one in breaks) < 0.4 * len(breaks):
            return False
        return not (upper >= 5 and upper > 9 * lower)


def _wrapped(
    lines: list[str], paragraphs: list[Paragraph], measure: Callable[[str], int]
) -> list[_Wrapped]:
    """The paragraphs to join; none where the text as a whole is not hard-wrapped."""
    ends = sorted(
        measure(line.expandtabs(8)) for one in paragraphs for line in lines[one.start : one.end - 1]
    )
    if not ends:
        return []
    edge = ends[min(int(EDGE * len(ends)), len(ends) - 1)]
    if not NARROWEST <= edge <= WIDEST:
        return []
    found = [
        _Wrapped(one, [_break(*pair, edge, measure) for pair in _pairs(lines, one)])
        for one in paragraphs
    ]
    chosen = [one for one in found if one.is_wrapped]
    breaks = [one for paragraph in chosen for one in paragraph.breaks if one.full]
    longer = sum(
        len(line) > 1.2 * edge and line.count(" ") > 4 and measure(line) > 1.2 * edge
        for line in lines
    )
    whole = len(breaks) * 4 >= sum(len(one.breaks) for one in found) and len(breaks) >= 4 * longer
    if not whole or not _is_running_text(breaks, edge):
        return []
    prose = {line for one in chosen for line in range(one.paragraph.start, one.paragraph.end)}
    code = sum(
        CODE.search(line) is not None for number, line in enumerate(lines) if number not in prose
    )
    return chosen if code * 2 < len(breaks) else []


def _full_lines(chosen: list[_Wrapped]) -> int:
    return sum(one.full for paragraph in chosen for one in paragraph.breaks)


def _pairs(lines: list[str], paragraph: Paragraph) -> Iterator[tuple[str, str]]:
    return pairwise(lines[paragraph.start : paragraph.end])


def _break(line: str, following: str, edge: int, measure: Callable[[str], int]) -> _Break:
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
    pronoun = start in ("I", "I ", "I'", "I’")  # noqa: RUF001
    case = 1 if start[:1].islower() else -1 if start[:1].isupper() and not pronoun else 0
    ended = ends_sentence(line)
    letter = line[-1:].isalnum() or unicodedata.category(line[-1:])[0] == "M"
    full = needed > edge - int(SLACK * edge)
    near = not full and not ended and case == 1 and length >= NEAR * edge
    return _Break(full, near, ended, letter, case)


def _cases(breaks: list[_Break]) -> tuple[int, int]:
    """Lines within a sentence that begin with a small letter, and with a capital."""
    inside = [one.case for one in breaks if not one.ended]
    return inside.count(1), inside.count(-1)


def _is_running_text(full: list[_Break], edge: int) -> bool:
    """Whether these line ends are many enough, and stand within sentences as often as in prose."""
    inside = sum(not one.ended for one in full)
    lower, upper = _cases(full)
    few = 60 <= edge <= 82 and lower == len(full) == 2
    if len(full) < (3 if edge in USUAL else 6) and not few:
        return False
    if inside * 2 < len(full) or lower * 2 < upper:
        return False
    # Verse ends its lines at commas, lists at all kinds of marks.
    return sum(one.letter for one in full) >= LETTERS * len(full)


def _joined(lines: list[str], chosen: list[_Wrapped]) -> Iterator[str]:
    joiner = Joiner(lines)
    at = 0
    for one in chosen:
        yield from lines[at : one.paragraph.start]
        inside = lines[one.paragraph.start : one.paragraph.end]
        if one.paragraph.justified:
            inside = [_closed(line) for line in inside]
        parts = [inside[0]]
        for mark, line in zip(one.breaks, inside[1:], strict=True):
            if mark.full or mark.near:
                following = line.lstrip()
                parts[-1], between = joiner.between(parts[-1], following)
                parts += [between, following]
            else:
                yield "".join(parts)
                parts = [line]
        yield "".join(parts)
        at = one.paragraph.end
    yield from lines[at:]


def _closed(line: str) -> str:
    """A justified line with one space between words."""
    rest = line.lstrip()
    return line[: len(line) - len(rest)] + " ".join(rest.split())


def columns(line: str) -> int:
    """The width of a line on a terminal: wide letters take two columns, combining marks none."""
    return len(line) if line.isascii() else sum(map(_columns, line))


@cache
def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
