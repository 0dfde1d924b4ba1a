"""The tables of this folder: tab-separated lines, remarks behind #, "|" between other names."""

from functools import cache
from pathlib import Path


@cache
def table(name: str) -> tuple[tuple[str, ...], ...]:
    """The rows of NAME.tsv."""
    text = Path(__file__).with_name(f"{name}.tsv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(tuple(line.split("\t")) for line in lines)


def names(cell: str) -> tuple[str, ...]:
    """The names that a cell lists."""
    return tuple(cell.split("|"))
