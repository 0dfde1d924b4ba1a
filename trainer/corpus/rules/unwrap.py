"""Unwrapping: the lines of hard-wrapped paragraphs joined, everything else as it stands.

A text is hard-wrapped where its paragraphs' lines end because the next word would have passed one
right edge, and mostly in the midst of a sentence. Both are looked at: verse ends its lines early,
or begins them with capitals; a text with a paragraph or a sentence a line ends them with a full
stop. A text of which this is not so stays as it is, byte for byte; in one of which it is so, each
block is looked at by itself.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from trainer.corpus.rules.joining import Joiner
from trainer.corpus.rules.line_ends import LineEnd, columns, line_end
from trainer.corpus.rules.paragraphs import Paragraph, paragraphs_of

NARROWEST, WIDEST = 34, 160
"""Columns of the right edge that are taken for one."""
USUAL = range(55, 101)
"""Right edges of most wrapped texts; others need more evidence."""
LETTERS = 0.6
"""Least share of full lines that end with a letter: in prose five of six do, in verse a third."""
EDGE = 0.95
"""The quantile of the lines' ends that is taken for the right edge: some lines pass it."""
CODE = re.compile(
    r"[{};\\]$|\):$|^\s*[\w.\[\]]+ ?[-+*/|&]?= ?\S|\s(?:==|!=|=>|->)\s|"
    r"^\s*(?:class|def|elif|else|except|finally|for|if|try|while|with)\b.*:$|"
    r"^\s*(?:from [\w.]+ )?import \w|^\s*(?:return|raise|assert|yield)\b|^\s*@\w+|"
    r"^\s*#\s*(?:include|define|ifn?def|if|endif|else|pragma)\b"
)
"""Lines of source code."""
PATCH = "\n@@ -"
"""In a patch the first character of a line has a meaning, whatever the rest is."""


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
    if PATCH in text:
        return text
    lines = text.split("\n")
    paragraphs = paragraphs_of(lines)
    # An editor fills columns, a program often characters.
    measures = (len,) if text.isascii() else (columns, len)
    chosen = max((_wrapped(lines, paragraphs, one) for one in measures), key=_full_lines)
    return "\n".join(_joined(lines, chosen)) if chosen else text


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """A paragraph and its line ends, at some right edge."""

    paragraph: Paragraph
    breaks: list[LineEnd]

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
        if len(breaks) >= 4 and sum(one.letter for one in breaks) < 0.4 * len(breaks):
            return False
        inside = [one for one in breaks if not one.ended]
        capitals = sum(one.capital for one in inside)
        return not (capitals >= 5 and capitals > 9 * sum(one.goes_on for one in inside))

    @property
    def is_surely_wrapped(self) -> bool:
        """Whether its lines alone say so, without those around it."""
        breaks = self.breaks
        return (
            len(breaks) >= 4
            and all(one.full for one in breaks)
            and sum(one.goes_on and not one.ended for one in breaks) * 2 >= len(breaks)
            and sum(one.letter for one in breaks) >= LETTERS * len(breaks)
        )


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
        _Wrapped(one, [line_end(*pair, edge, measure) for pair in _pairs(lines, one)])
        for one in paragraphs
    ]
    chosen = [one for one in found if one.is_wrapped and _is_even(lines, one, edge, measure)]
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
    if code * 2 >= len(breaks):
        return []
    accepted = {id(one) for one in chosen}
    return [
        mended
        for one in found
        if (mended := one if id(one) in accepted else _narrower(lines, one, measure)) is not None
    ]


def _narrower(lines: list[str], one: _Wrapped, measure: Callable[[str], int]) -> _Wrapped | None:
    """A paragraph at its own right edge, as of a letter in a book; None where it has none."""
    inside = lines[one.paragraph.start : one.paragraph.end]
    edge = max(measure(line.expandtabs(8)) for line in inside)
    if not NARROWEST <= edge <= WIDEST:
        return None
    breaks = [line_end(*pair, edge, measure, slack=0) for pair in pairwise(inside)]
    narrower = _Wrapped(one.paragraph, breaks)
    return narrower if narrower.is_surely_wrapped else None


def _is_even(lines: list[str], one: _Wrapped, edge: int, measure: Callable[[str], int]) -> bool:
    """Whether a paragraph, where it is two justified lines, ends the first at the edge itself."""
    first = lines[one.paragraph.start].expandtabs(8)
    justified = one.paragraph.justified
    return not justified or len(one.breaks) > 1 or abs(measure(first) - edge) <= 1


def _full_lines(chosen: list[_Wrapped]) -> int:
    return sum(one.full for paragraph in chosen for one in paragraph.breaks)


def _pairs(lines: list[str], paragraph: Paragraph) -> Iterator[tuple[str, str]]:
    return pairwise(lines[paragraph.start : paragraph.end])


def _is_running_text(full: list[LineEnd], edge: int) -> bool:
    """Whether these line ends are many enough, and stand within sentences as often as in prose."""
    inside = [one for one in full if not one.ended]
    going_on = sum(one.goes_on for one in inside)
    few = 60 <= edge <= 82 and going_on == len(full) == 2
    if len(full) < (3 if edge in USUAL else 6) and not few:
        return False
    # Lists and verse begin their lines with capitals, logs with numbers.
    if len(inside) * 2 < len(full) or going_on * 3 < len(inside):
        return False
    # Verse ends its lines at commas, lists at all kinds of marks.
    return sum(one.letter for one in full) >= LETTERS * len(full)


def _joined(lines: list[str], chosen: list[_Wrapped]) -> Iterator[str]:
    joiner = Joiner(lines)
    justified = any(one.paragraph.justified for one in chosen)
    at = 0
    for one in chosen:
        yield from lines[at : one.paragraph.start]
        inside = lines[one.paragraph.start : one.paragraph.end]
        if justified:
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
