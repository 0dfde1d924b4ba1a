"""Instructions on the form of an answer: letters, marks, and formats that programs read."""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.evaluate.suites.instruction_kinds.amounts import lines_of, words_of

_TABLE_RULE = re.compile(r"\s*:?-+:?\s*")


def all_capitals(text: str) -> bool:
    """Letters, and no lower-case one."""
    return any(map(str.isalpha, text)) and text == text.upper()


def all_lower_case(text: str) -> bool:
    """Letters, and no capital one."""
    return any(map(str.isalpha, text)) and text == text.lower()


def angle_title(text: str) -> bool:
    """The first line is a title in angle brackets, <so>, and something follows."""
    found = lines_of(text)
    return bool(re.fullmatch(r"<[^<>]*\w[^<>]*>", found[0])) and len(found) > 1


def quoted(text: str) -> bool:
    """The whole answer stands in one pair of double quotation marks."""
    said = text.strip()
    inside = said[1:-1]
    pairs = ('""', "\u201c\u201d", "\u201e\u201c")
    marks = said[:1] + said[-1:]
    return marks in pairs and bool(words_of(inside)) and not set(inside) & set(marks)


def parted(text: str, separator: str, number: int) -> bool:
    """So many different parts that say something, between two a line that is the separator."""
    parts = re.split(rf"^\s*{re.escape(separator)}\s*$", text, flags=re.MULTILINE)
    said = {part.strip() for part in parts}
    return len(parts) == number == len(said) and all(map(words_of, said))


def json_object(text: str, keys: Sequence[str]) -> bool:
    """A JSON object of exactly these keys, and nothing else."""
    found = _read_json(text)
    return isinstance(found, dict) and set(found) == set(keys)


def json_list(text: str, number: int) -> bool:
    """A JSON list of so many different texts, and nothing else."""
    found = _read_json(text)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        return False
    return len(found) == number == len({one.strip().casefold() for one in found} - {""})


def _read_json(text: str) -> Any:
    """What a JSON text (RFC 8259) says; None where it is none, or has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_different_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def comma_separated(text: str, columns: int, rows: int) -> bool:
    """Lines of so many values with commas between (RFC 4180), at least so many, nothing else."""
    try:
        found = list(csv.reader(lines_of(text), skipinitialspace=True, strict=True))
    except csv.Error:
        return False
    return len(found) >= rows and all(
        len(row) == columns and all(value.strip() for value in row) for row in found
    )


def heading(text: str, level: int) -> bool:
    """The first line is a Markdown heading of this level, and something follows."""
    found = lines_of(text)
    return bool(re.match(rf"#{{{level}}}\s+[^\s#].*$", found[0])) and len(found) > 1


def code_block(text: str, language: str) -> bool:
    """A fenced code block that is marked with this language, opened and closed, not empty.

    Source of what a fence is: CommonMark 0.31, section 4.5.
    """
    fence = (
        rf"^[ \t]*(?P<fence>`{{3,}}|~{{3,}})[ \t]*{re.escape(language)}(?:[ \t][^`\n]*)?\n"
        r"(?P<code>.*?)\n[ \t]*(?P=fence)[`~]*[ \t]*$"
    )
    found = re.search(fence, text, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    return found is not None and bool(found["code"].strip())


def table(text: str, columns: int, rows: int, heads: Sequence[str] | None = None) -> bool:
    """A Markdown table: a head, a rule, and at least so many rows, of so many columns each.

    Each row says something. `heads`: what the head says, in any case, where that is given.
    """
    found = [_cells(line) for line in lines_of(text) if "|" in line]
    if len(found) < 2 + rows or any(len(cells) != columns for cells in found):
        return False
    head, rule, *body = found
    if heads is not None and [" ".join(words_of(cell)).casefold() for cell in head] != list(heads):
        return False
    return all(map(_TABLE_RULE.fullmatch, rule)) and all(map(any, [head, *body]))


def _cells(line: str) -> list[str]:
    """The cells of a table's line, between bars that no backslash stands before."""
    inside = re.sub(r"^\||(?<!\\)\|$", "", line)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", inside)]


def tagged(text: str, tag: str) -> bool:
    """The whole answer stands in an XML element of this name, and says something."""
    inside = rf"((?:(?!</?{tag}>).)*)"
    found = re.fullmatch(rf"<{tag}>{inside}</{tag}>", text.strip(), re.DOTALL)
    return found is not None and bool(words_of(found[1]))


FORMATS: Mapping[str, Callable[..., bool]] = {
    "all capitals": all_capitals,
    "all lower case": all_lower_case,
    "title in angle brackets": angle_title,
    "in quotation marks": quoted,
    "two answers": parted,
    "JSON object": json_object,
    "JSON list": json_list,
    "CSV": comma_separated,
    "heading": heading,
    "code block": code_block,
    "table": table,
    "XML element": tagged,
}
"""Checks by kind."""
