"""A part's JSON as Markdown: by hand where its shape is known, else every figure by its name."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MOST_ROWS = 60
"""Longer lists are cut, and say so."""


def section_of(part: str, content: Any) -> Iterator[str]:
    """The lines of the part's table."""
    yield from _BY_PART.get(part, any_table)(content)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """A Markdown table; None is "not measured"."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows[:MOST_ROWS]:
        yield f"| {' | '.join(cell(value) for value in row)} |"
    if len(rows) > MOST_ROWS:
        yield f"\n{len(rows) - MOST_ROWS} more rows are in the JSON."


def cell(value: object) -> str:
    """A number with four digits; text with its bars escaped."""
    if value is None:
        return "not measured"
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def any_table(content: Any) -> Iterator[str]:
    """Every figure by its dotted name, and each list of equal entries as a table of its own."""
    figures: list[tuple[str, object]] = []
    lists: list[tuple[str, list[dict[str, Any]]]] = []
    _gather("", content, figures, lists)
    if figures:
        yield from table(("figure", "value"), figures)
    for name, entries in lists:
        keys = list(dict.fromkeys(key for entry in entries for key in entry))
        yield f"\n{name or 'entries'}:\n"
        yield from table(keys, [[entry.get(key) for key in keys] for entry in entries])


def _gather(
    name: str,
    value: Any,
    figures: list[tuple[str, object]],
    lists: list[tuple[str, list[dict[str, Any]]]],
) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "recipe" and isinstance(inner, Mapping):
                continue  # all its keys; the JSON has them
            _gather(f"{name}.{key}" if name else str(key), inner, figures, lists)
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        lists.append((name, [_flat(one) for one in value]))
    elif isinstance(value, list):
        figures.append((name, ", ".join(cell(one) for one in value)))
    else:
        figures.append((name, value))


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": one for inner, one in _flat(value).items()}
        else:
            flat[key] = value
    return flat


def _kernels(content: Any) -> Iterator[str]:
    """A line a family and dtype, and each case that is wrong."""
    yield f"Ran: {content['implementation']}. Errors are relative to the largest element.\n"
    cases = content["cases"]
    rows = []
    for family, dtype in dict.fromkeys((one["family"], one["dtype"]) for one in cases):
        own = [one for one in cases if (one["family"], one["dtype"]) == (family, dtype)]
        known = [one for one in own if one["error"] is not None and one["allowed"]]
        nearest = max(known, key=lambda one: one["error"] / one["allowed"], default=None)
        right = sum(one["failure"] is None for one in own)
        found = ("-", None, None)
        if nearest is not None:
            words = f"{nearest['operator']}, {nearest['size']}: {nearest['worst']}"
            found = (words, nearest["error"], nearest["allowed"])
        rows.append((family, dtype, f"{right} of {len(own)}", *found))
    yield from table(("family", "dtype", "right", "nearest to its bound", "error", "allowed"), rows)
    for one in cases:
        if one["failure"] is not None:
            yield f"\nWrong: {one['operator']} {one['size']} {one['dtype']}: {one['failure']}"


def _bench(content: Any) -> Iterator[str]:
    """Median, rate and share of the ceiling of every implementation."""
    rows = []
    for one in content["results"]:
        median = None if one["measurement"] is None else one["measurement"]["median_seconds"] * 1e6
        failed = f"not measured: {one['failure']}" if one["failure"] else median
        name = f"{one['family']} {one['operator']}"
        share, floor = one["ceiling_share"], one["floor_seconds"] * 1e6
        rows.append((name, one["size"], one["implementation"] or "-", failed, floor, share))
    head = ("operator", "size", "implementation", "median, us", "floor, us", "share of the ceiling")
    yield from table(head, rows)


def _curve(content: Any) -> Iterator[str]:
    """The losses side by side."""
    rows = [(step, *losses) for step, losses in enumerate(zip(*content["losses"], strict=True), 1)]
    names = [f"{number}: {name}" for number, name in enumerate(content["devices"], 1)]
    yield from table(("step", *names), rows)
    yield (
        f"\nThe largest difference is {content['largest_difference']:.3g} nats; allowed is "
        f"{content['tolerance']:g}."
    )


def _doctor(content: Any) -> Iterator[str]:
    """How many ended how, and every check."""
    checks = content["checks"]
    counts = Counter(one["state"] for one in checks)
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    yield f"{content['backend']} on {content['device']}: {counted}.\n"
    rows = [(one["name"], one["state"], one["reason"], one["seconds"]) for one in checks]
    rows.sort(key=lambda row: row[1] == "ok")
    yield from table(("check", "state", "found", "seconds"), rows)


_BY_PART: dict[str, Callable[[Any], Iterator[str]]] = {
    "kernels": _kernels,
    "bench": _bench,
    "curve": _curve,
    "doctor": _doctor,
}
