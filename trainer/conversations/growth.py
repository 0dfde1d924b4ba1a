"""How long a text becomes by one step of a template, said before the step is made.

All functions return a number of characters that the step's result does not pass by much, 0 where it
is no longer than what it is made of; `size` measures a value as text. Numbers that would take too
long to compute count as texts of as many digits.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MOST_WIDTH = 10_000
"""The largest number that a filter or a method of texts may be given, as to centre a text."""
TOO_LONG = 1 << 62
_NUMBER = re.compile(r"[0-9]{5,}")
_NESTED = re.compile(r"\{[^{}]*\{")
_ANY_NUMBER = {"default", "d", "int", "float", "round", "abs", "list", "string", "tojson"}
"""Filters whose numbers are no widths, or are looked at below."""
_AS_TEXT = {
    *("string", "tojson", "pprint", "escape", "e", "forceescape", "urlencode", "xmlattr", "urlize"),
    *("upper", "lower", "title", "capitalize", "striptags", "trim", "safe"),
}
MOST_INDENT = 100


class TemplateBound(Exception):
    """A template does more than its bounds allow."""


SizeOf = Callable[[Any], int]


def grown_by_operator(operator: str, left: Any, right: Any, size: SizeOf) -> int:
    """Of `left operator right`."""
    numbers = isinstance(left, int) and isinstance(right, int)
    if operator == "**":
        return left.bit_length() * max(right, 0) // 3 if numbers else 0
    if operator == "*":
        if numbers:
            return (left.bit_length() + right.bit_length()) // 3
        for text, times in ((left, right), (right, left)):
            if isinstance(text, str | bytes | list | tuple) and isinstance(times, int):
                return len(text) * max(times, 0)
        return 0
    if operator == "%" and isinstance(left, str):
        return _formatted(left, "%", right if isinstance(right, tuple) else (right,), size)
    return 0  # the sum of two is twice the longer one at most


def grown_by_call(
    called: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], size: SizeOf
) -> int:
    """Of a call of a method of texts; anything else is 0."""
    method = getattr(called, "__wrapped__", called)
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if not isinstance(owner, str):
        return 0
    given = (*arguments, *named.values())
    if name in ("format", "format_map"):
        values = given[0].values() if name == "format_map" and given else given
        return _formatted(owner, "{", values, size)
    if _wide(given):
        return TOO_LONG
    if name == "replace" and len(given) > 1:
        return _replaced(owner, given[0], given[1])
    if name == "join" and given and isinstance(given[0], list | tuple | dict | str):
        return _joined(owner, given[0], size)
    if name == "translate" and given and isinstance(given[0], Mapping):
        longest = max((len(one) for one in given[0].values() if isinstance(one, str)), default=1)
        return len(owner) * longest
    if name == "expandtabs":
        return owner.count("\t") * max((n for n in given if isinstance(n, int)), default=8)
    return 0


def grown_by_filter(
    name: str, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], size: SizeOf
) -> int:
    """Of a filter."""
    given = (*arguments, *named.values())
    if name not in _ANY_NUMBER and _wide(given):
        return TOO_LONG
    if name == "round" and any(isinstance(n, int) and abs(n) > MOST_INDENT for n in given):
        return TOO_LONG
    if name in _AS_TEXT:
        if name == "tojson":
            return size(value) * (1 + _indent(given))
        longest = max((len(one) for one in given if isinstance(one, str)), default=0)
        times = longest if name == "urlize" else 1
        return (len(value) if isinstance(value, str) else size(value)) * max(times, 1)
    if name == "replace" and len(given) > 1:
        return _replaced(value, given[0], given[1])
    if name == "join":
        return _joined(next((one for one in given if isinstance(one, str)), ""), value, size)
    if name == "format":
        return _formatted(str(value), "%", given, size)
    if name == "indent":
        widths = (len(one) if isinstance(one, str) else one for one in given)
        width = max((one for one in widths if isinstance(one, int)), default=4)
        return (str(value).count("\n") + 1) * width
    if name == "wordwrap":
        longest = max((len(one) for one in given if isinstance(one, str)), default=1)
        return len(str(value)) * (longest + 1)
    if name == "sum" and any(isinstance(one, list | tuple) for one in given):
        return TOO_LONG
    return 0


def _wide(given: Iterable[Any]) -> bool:
    return any(isinstance(one, int) and abs(one) > MOST_WIDTH for one in given)


def _indent(given: Iterable[Any]) -> int:
    widths = (len(one) if isinstance(one, str) else one for one in given)
    width = max((one for one in widths if isinstance(one, int)), default=0)
    return width if width <= MOST_INDENT else TOO_LONG


def _replaced(value: Any, old: Any, new: Any) -> int:
    if not isinstance(value, str) or not isinstance(old, str) or not isinstance(new, str):
        return 0
    return value.count(old) * max(len(new) - len(old), 0)


def _joined(between: str, items: Any, size: SizeOf) -> int:
    if isinstance(items, Mapping):
        items = list(items)
    return size(items) + len(items) * len(between) if isinstance(items, list | tuple | str) else 0


def _formatted(text: str, sign: str, values: Iterable[Any], size: SizeOf) -> int:
    """Of a text with fields that begin with `sign`; a width in digits is a number like another."""
    values = list(values)
    widths = [one for one in values if isinstance(one, int)] if _given_widths(text) else []
    if _NUMBER.search(text) or _wide(widths):
        return TOO_LONG
    widest = max([*map(abs, widths), *map(int, re.findall(r"[0-9]+", text))], default=0)
    longest = max(map(size, values), default=0)
    return len(text) + text.count(sign) * (longest + widest)


def _given_widths(text: str) -> bool:
    """Whether values may be the widths of others."""
    return "*" in text or _NESTED.search(text) is not None
