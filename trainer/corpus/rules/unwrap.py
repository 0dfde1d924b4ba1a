"""Unwrapping: the lines of hard-wrapped paragraphs joined, everything else as it stands.

A text is hard-wrapped where its paragraphs' lines end because the next word would have passed one
right edge, and mostly in the midst of a sentence. Both are looked at: verse ends its lines early,
or begins them with capitals; a text with a paragraph or a sentence a line ends them with a full
stop. A text of which this is not so stays as it is, byte for byte; in one of which it is so, each
block is looked at by itself.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from trainer.corpus.rules.joining import Joiner
from trainer.corpus.rules.line_ends import NEAR, LineEnd, columns, line_end
from trainer.corpus.rules.paragraphs import Paragraph, paragraphs_of, unfenced

NARROWEST, WIDEST = 34, 160
"""Columns of the right edge that are taken for one."""
USUAL = range(55, 101)
"""Right edges of most wrapped texts; others need more evidence."""
LETTERS, LETTERS_EXACT = 0.6, 0.4
"""Least share of full lines that end with a letter: in prose five of six do, in verse a third.
The second: where no line at all has room for the next word."""
GOING_ON, GOING_ON_EXACT = 1 / 3, 1 / 5
"""Least share of full lines within sentences behind which a small letter begins the next one."""
EDGES = (1.0, 0.95, 0.85, 0.75)
"""Quantiles of the lines' ends that are tried as the right edge: some lines pass it."""
SURE = 0.95
"""A lower quantile must be one of the usual edges, and have few lines that end beyond it."""
BEYOND = 1.04
"""What passes the edge by more than this is another's edge."""
CODE = re.compile(
    r"[{};\\]$|\):$|^\s*[\w.\[\]]+ ?[-+*/|&]?= ?\S|\s(?:==|!=|=>|->)\s|"
    r"^\s*(?:class|def|elif|else|except|finally|for|if|try|while|with)\b.*:$|"
    r"^\s*(?:from [\w.]+ )?import \w|^\s*(?:return|raise|assert|yield)\b|^\s*@\w+|"
    r"^\s*#\s*(?:include|define|ifn?def|if|endif|else|pragma)\b"
)
"""Lines of source code."""
SOURCE = re.compile(
    r"import [\w.*]+;?$|from [\w.]+ import [\w(]|(?:async )?def \w+\(|class \w+\b.*[:{]$"
    r"|[A-Za-z_][\w.]* = [\w.]*[\[({]|\((?:def|set|let|put|require|provide)"
    r"|#\s*(?:include|define|ifn?def|endif)\b|(?:package|use|using|namespace) [\w:.]+.*[;{]$"
)
"""Lines at the margin of a file of source code, and hardly ever at that of a text."""
OF_SOURCE = 10
"""Full lines of prose for each of them in a text that quotes source code at the margin."""
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
    if sum(len(line) * 2 >= NARROWEST for line in lines) < 2:
        return text
    paragraphs = paragraphs_of(lines)
    # An editor fills columns, a program often characters.
    measures = (len,) if text.isascii() else (columns, len)
    chosen = max((_wrapped(lines, paragraphs, one) for one in measures), key=_full_lines)
    return "\n".join(_joined(lines, chosen)) if chosen else text


@dataclass(frozen=True, slots=True)
class _Block:
    """A paragraph, its line ends, and the right edge at which they are looked at."""

    paragraph: Paragraph
    ends: list[LineEnd]
    last: int
    """Where its last line ends."""
    edge: int = 0

    @property
    def full(self) -> list[LineEnd]:
        return [one for one in self.ends if one.is_full(self.edge)]

    @property
    def is_wrapped(self) -> bool:
        """Whether nearly every line is full, or ends a sentence, and few lines end them."""
        ends, full = self.ends, len(self.full)
        near = sum(one.is_near(self.edge) for one in ends)
        ended = sum(one.ended and not one.is_full(self.edge) for one in ends)
        first = ends[0]
        # A heading right above its text: it stays on a line of its own.
        titled = first.capital and not first.ended and not first.is_full(self.edge)
        broken = len(ends) - full - near - ended - titled
        early = sum(one.is_near(self.edge) and not one.mixed for one in ends)
        if full <= ended or full < 2 * early or 2 * full < near or broken * 8 > len(ends):
            return False
        if len(ends) > 1 and sum(one.ended for one in ends) * 2 > len(ends):
            return False
        if len(ends) >= 4 and sum(one.letter for one in ends) < 0.4 * len(ends):
            return False
        if sum(one.repeated for one in ends) * 3 >= len(ends):
            return False
        if self.paragraph.justified and len(ends) == 1 and abs(ends[0].length - self.edge) > 1:
            return False
        inside = [one for one in ends if not one.ended]
        capitals = sum(one.capital for one in inside)
        return not (capitals >= 3 and capitals > 9 * sum(one.goes_on for one in inside))

    @property
    def is_exact(self) -> bool:
        """Whether no line has room for the next word."""
        return all(one.is_full(self.edge, slack=0) for one in self.ends)

    @property
    def is_surely_wrapped(self) -> bool:
        """Whether its lines alone say so, without those around it."""
        ends = self.ends
        return (
            len(ends) >= 4
            and self.is_exact
            and sum(one.goes_on and not one.ended for one in ends) * 2 >= len(ends)
            and sum(one.letter for one in ends) >= LETTERS * len(ends)
            and not any(one.repeated for one in ends)
        )


def _wrapped(
    lines: list[str], paragraphs: list[Paragraph], measure: Callable[[str], int]
) -> list[_Block]:
    """The paragraphs to join; none where the text as a whole is not hard-wrapped."""
    blocks = []
    for one in paragraphs:
        pairs = pairwise(lines[one.start : one.end])
        last = measure(lines[one.end - 1].expandtabs(8))
        blocks.append(_Block(one, [line_end(*pair, measure) for pair in pairs], last))
    lengths = sorted(one.length for block in blocks for one in block.ends)
    chosen: list[_Block] = []
    for edge in _edges(lengths):
        found = [replace(block, edge=edge) for block in blocks]
        found = [block for block in found if block.is_wrapped]
        if _full_lines(found) > 1.1 * _full_lines(chosen):
            chosen = found
    if not chosen or not _is_running_text(chosen):
        return []
    full, edge = _full_lines(chosen), chosen[0].edge
    inside = {
        line for block in chosen for line in range(block.paragraph.start, block.paragraph.end)
    }
    outside = [line for number, line in enumerate(lines) if number not in inside]
    longer = sum(line.count(" ") > 4 and measure(line) > 1.2 * edge for line in outside)
    code = sum(CODE.search(line) is not None for line in outside)
    source = sum(SOURCE.match(line) is not None for line in unfenced(lines))
    if full * 4 < len(lengths) or full < 4 * longer or full <= max(2 * code, OF_SOURCE * source):
        return []
    at = {block.paragraph.start: block for block in chosen}
    blocks = [at.get(block.paragraph.start) or _narrower(block) for block in blocks]
    return [block for block in blocks if block.edge]


def _edges(lengths: list[int]) -> list[int]:
    """The right edges to try, farthest first; `lengths`: where lines end, sorted."""
    found = []
    for quantile in EDGES if lengths else ():
        edge = lengths[int(quantile * (len(lengths) - 1))]
        few_beyond = sum(length > BEYOND * edge for length in lengths) * 5 <= len(lengths)
        allowed = NARROWEST <= edge <= WIDEST if quantile >= SURE else edge in USUAL and few_beyond
        if allowed and edge not in found:
            found.append(edge)
    return found


def _narrower(block: _Block) -> _Block:
    """The block at its own right edge, as of a letter in a book; at none where it has none."""
    edge = max(one.length for one in block.ends)
    narrower = replace(block, edge=edge)
    fits = NARROWEST <= edge <= WIDEST and narrower.is_surely_wrapped
    return narrower if fits else block


def _full_lines(blocks: list[_Block]) -> int:
    return sum(len(block.full) for block in blocks)


def _is_running_text(blocks: list[_Block]) -> bool:
    """Whether full lines are many enough, and end within sentences as often as in prose."""
    full = [one for block in blocks for one in block.full]
    edge = blocks[0].edge
    inside = [one for one in full if not one.ended]
    going_on = sum(one.goes_on for one in inside)
    few = 60 <= edge <= 82 and going_on == len(full) == 2
    if len(full) < (3 if edge in USUAL else 6) and not few:
        return False
    # Chance fills no four lines to the last word.
    exact = edge in USUAL and len(full) >= 4 and all(block.is_exact for block in blocks)
    # A stanza's last line is as long as its others, a paragraph's is of any length.
    long_last = sum(block.last >= NEAR * edge for block in blocks)
    many = edge not in USUAL or long_last * 4 > 3 * len(blocks) >= 9
    if many and not exact and long_last * 2 > len(blocks):
        return False
    # Lists and verse begin their lines with capitals, logs with numbers.
    if len(inside) * 2 < len(full):
        return False
    if going_on < (GOING_ON_EXACT if exact else GOING_ON) * len(inside):
        return False
    # Verse ends its lines at commas, lists at all kinds of marks.
    return sum(one.letter for one in full) >= (LETTERS_EXACT if exact else LETTERS) * len(full)


def _joined(lines: list[str], chosen: list[_Block]) -> Iterator[str]:
    joiner = Joiner(lines)
    justified = any(one.paragraph.justified for one in chosen)
    at = 0
    for one in chosen:
        yield from lines[at : one.paragraph.start]
        inside = lines[one.paragraph.start : one.paragraph.end]
        if justified:
            inside = [_closed(line) for line in inside]
        parts = [inside[0]]
        for end, line in zip(one.ends, inside[1:], strict=True):
            if end.is_full(one.edge) or end.is_near(one.edge):
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
