"""The runs of a text's lines that may be paragraphs of hard-wrapped prose.

Left out, because their line ends mean something: lists, tables, code, quoted and commented lines,
headings, fields and headers, signatures, hanging indents.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from trainer.corpus.rules.prose_lines import reads_like_prose

DEEPEST_FIRST_LINE = 12
"""Columns by which a paragraph's first line may be indented beyond the others."""
HANGING_LINES = 6
HANGING = 0.7
"""A first line of this share of the longest of the next ones begins a text, and is no title."""

QUOTED = re.compile(r"\s*(?:[>|#%]|//|/\*|\*/|;;|dnl\b)|[.'](?:[A-Z]{1,2}|[a-z]{2}|\\\")(?:\s|$)")
"""Beginnings of quotations, comments, headings in Markdown, rows of tables, requests of troff."""
ITEM = re.compile(
    r"\s*(?:[-*+•‣◦·▪●○■□✓►]\s|o\s\s|\d{1,3}[.)、](?!\d)|\(?(?:\d{1,3}|[ivxlc]{1,5})\)\s"
    r"|\(?[a-zA-Z\u0391-\u03c9\u0410-\u044f\u05d0-\u05ea\u0621-\u064a]\)\s"
    r"|[一二三四五六七八九十]{1,3}[、．]|[（〔(][一二三四五六七八九十]{1,3}[）〕)]|（\d{1,3}）"  # noqa: RUF001
    r"|[\u2460-\u24ff\u2776-\u2793\u3220-\u3247●○■□◆◇▲△▼▽►▶★☆◎※・]"
    r"|\d+(?:\.\d+)+\.?\s|:[\w ]+:|@\w+\s|\.\.(?:\s|$)|\[[^\]]{1,40}\]:|>>>|\.\.\.\s|\$\s|\\"
    r"|<(?!https?:|mailto:|[\w.+-]+@)[!/a-zA-Z])"
)
"""Beginnings of items, fields, directives, commands and tags: the run ends with them."""
NUMBERED = re.compile(r"\s*(?!1\D)\d{1,3}[.)]\s")
"""Items but the first of a list, and the last word of a sentence."""
LETTERED = re.compile(
    r"\s*(?:(?:[A-Za-z\u0391-\u03c9\u0410-\u044f가나다라마바사]|[IVXLC]{1,5})\.\s|\d{1,3}\s?[-–—]\s|\[[\w.+-]{1,16}\]\s|--+\s|–)"  # noqa: RUF001
)
"""Beginnings of items, but also of a line that goes on: initials, a dash."""
SPEECH = re.compile(r"\s*(?:[—―]|[A-Z][\w.]{0,15}(?: [A-Z][\w.]{0,15})?:\s)")
"""Beginnings of speech, behind a dash or a name, or of a line that goes on."""
HEADER = re.compile(r"[A-Za-z][\w-]{1,30}:(?:\s|$)")
MAIL = re.compile(
    r"(?:From|To|Subject|Date|Received|Message-ID|Newsgroups|Path|Return-Path): "
    r"|From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d "
)
"""A header, or the line before each mail of an mbox file (RFC 4155)."""
UNDERLINE = re.compile(r"([^\w\s])\1{3,}$|--+$|==+$")
"""What makes the line above it a heading."""
FENCE = re.compile(r"\s*(```|~~~)[^`~]*$")
GAP = re.compile(r"(\S)( {2,})(?=\S)")
SENTENCE_ENDS = tuple(".!?:。！？：…।॥؟۔։")  # noqa: RUF001
CLOSERS = "\"'”’»›)]*_」』"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines `start` to `end` (excluded); `justified`: padded with spaces to an even right edge."""

    start: int
    end: int
    justified: bool


def paragraphs_of(lines: list[str]) -> list[Paragraph]:
    """The paragraphs of two lines or more that may be prose, in order."""
    found = []
    for start, end in _runs(lines):
        for first, last in _pieces(lines, start, end):
            if last - first < 2:
                continue
            piece = lines[first:last]
            if reads_like_prose(piece):
                spaced = _spacing(piece)
                if spaced is not None:
                    found.append(Paragraph(first, last, spaced))
    return found


def ends_sentence(line: str) -> bool:
    """Whether a line ends with a full stop or the like, in quotation marks or not."""
    return line.rstrip(CLOSERS).endswith(SENTENCE_ENDS)


def indent_of(line: str) -> int:
    """Columns of white space at the beginning."""
    rest = line.lstrip()
    before = line[: len(line) - len(rest)]
    return len(before.expandtabs(8))


def unfenced(lines: list[str]) -> Iterator[str]:
    """The lines that stand in no fenced block."""
    fence: str | None = None
    for line in lines:
        mark = FENCE.match(line)
        if mark:
            fence = mark[1] if fence is None else None if fence == mark[1] else fence
        elif fence is None:
            yield line


def _runs(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Runs of lines that are not blank, outside of fenced and literal blocks and signatures."""
    fence: str | None = None
    literal: int | None = None
    start: int | None = None
    closings = {line.strip(): number for number, line in enumerate(lines) if FENCE.match(line)}
    for number, line in enumerate([*lines, ""]):
        mark = FENCE.match(line)
        if mark or fence is not None or not line.strip() or line.rstrip() == "--":
            if start is not None:
                indent = indent_of(lines[start])
                literal = None if literal is None or indent <= literal else literal
                if literal is None:
                    yield start, number
                    last = lines[number - 1]
                    literal = indent_of(last) if last.endswith("::") else None
                start = None
            if mark and fence == mark[1]:
                fence = None
            elif mark and fence is None and closings.get(mark[1], -1) > number:
                fence = mark[1]
            if line.rstrip() == "--" and len(lines) - number < 20:
                return
        elif start is None:
            start = number


def _pieces(lines: list[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The run cut where its indent says that another paragraph begins, without what is no prose."""
    if _is_header(lines[start:end]):
        return
    depths = [indent_of(line) for line in lines[start:end]]
    begins = _first_lines(depths)
    first, base, hanging = start, -1, -1
    for number, depth in enumerate(depths, start):
        line = lines[number]
        if hanging >= 0:
            if depth > hanging:
                first = number + 1
                continue
            first, hanging = number, -1
        rule = not any(map(str.isalnum, line))
        item = not rule and _is_item(line, lines[number - 1] if number > first else None)
        if rule or item or QUOTED.match(line):
            yield first, number - 1 if UNDERLINE.match(line) else number
            if item:
                return
            first = number + 1
        elif number > first and SPEECH.match(line) and ends_sentence(lines[number - 1]):
            yield first, number
            first, base = number, -1
        elif number == first:
            base = -1
        elif base < 0:
            before = depths[first - start]
            if depth > before and _is_text(lines[first : min(first + HANGING_LINES, end)]):
                hanging, first = before, number + 1
            elif depth <= before <= depth + DEEPEST_FIRST_LINE and not (
                # A paragraph of one line, and this is the next one's first.
                begins[number - start] and depth == before and ends_sentence(lines[number - 1])
            ):
                base = depth
            else:
                first = number
        elif depth != base:
            yield first, number
            first, base = number, -1
    yield first, end


def _first_lines(depths: list[int]) -> list[bool]:
    """Whether each line is deeper than the margin, and so are those behind it until one that stands
    at it: as the first lines of paragraphs, where some have no more.
    """
    margin, begins, returns = min(depths), [], False
    for depth, following in zip(reversed(depths), [-1, *reversed(depths)], strict=False):
        if depth != following:
            returns = following == margin < depth <= margin + DEEPEST_FIRST_LINE
        begins.append(returns)
    return begins[::-1]


def _is_item(line: str, before: str | None) -> bool:
    """Whether a line behind another of its run, if there is one, is an item or the like."""
    if before is None or ends_sentence(before):
        return (ITEM.match(line) or LETTERED.match(line)) is not None
    # "on pages 3 and / 4. They" begins no list.
    return ITEM.match(line) is not None and NUMBERED.match(line) is None


def _is_text(lines: list[str]) -> bool:
    """Whether a line with deeper ones behind it begins their text, instead of being its title."""
    return len(lines[0]) >= HANGING * max(map(len, lines))


def _is_header(run: list[str]) -> bool:
    """Whether the run is fields of name and value, as at the head of a mail."""
    if MAIL.match(run[0]):
        return True
    fields = sum(HEADER.match(line) is not None for line in run)
    return fields >= 2 and HEADER.match(run[0]) is not None


def _spacing(piece: list[str]) -> bool | None:
    """Whether the piece is justified; None for columns of a table."""
    wide = double = 0
    for line in piece:
        for gap in GAP.finditer(line.strip()):
            wide += len(gap[2]) > 2
            double += len(gap[2]) == 2 and gap[1] not in ".!?:\"')”’"  # noqa: RUF001
    if not wide and double * 4 <= len(piece):
        return False
    widths = {len(line) for line in piece[:-1]}
    even = max(widths) - min(widths) <= 1 and len(piece[-1]) <= max(widths)
    return True if even and not _has_column(piece) else None


def _has_column(piece: list[str]) -> bool:
    """Whether two neighbouring columns inside the text are blank in every line."""
    shortest = min(len(line) for line in piece)
    first = max(indent_of(line) for line in piece) + 1
    blank = [all(line[at] == " " for line in piece) for at in range(first, shortest)]
    return any(one and other for one, other in pairwise(blank))
