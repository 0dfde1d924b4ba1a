"""Instructions on the form of an answer: letters, marks, and formats that programs read."""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence

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
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(found) == set(keys)


def json_list(text: str, number: int) -> bool:
    """A JSON list of so many texts, and nothing else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(found, list)
        and len(found) == number
        and all(isinstance(one, str) and one.strip() for one in found)
    )


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
    return bool(re.match(rf"#{{{level}}}\s+\w", found[0])) and len(found) > 1


def code_block(text: str, language: str) -> bool:
    """A fenced code block that is marked with this language, opened and closed, not empty."""
    fence = rf"^```[ \t]*{re.escape(language)}[ \t]*\n(.*?)\n```[ \t]*$"
    found = re.search(fence, text, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    return found is not None and bool(found[1].strip())


def table(text: str, columns: int, rows: int) -> bool:
    """A Markdown table: a head, a rule, and at least so many rows, of so many columns each."""
    found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines_of(text)
        if line.count("|") >= columns - 1 and "|" in line
    ]
    if len(found) < 2 + rows or any(len(cells) != columns for cells in found):
        return False
    return all(_TABLE_RULE.fullmatch(cell) for cell in found[1]) and all(found[0])


def tagged(text: str, tag: str) -> bool:
    """The whole answer stands in an XML element of this name, and says something."""
    found = re.fullmatch(rf"<{tag}>(.*)</{tag}>", text.strip(), re.DOTALL)
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
