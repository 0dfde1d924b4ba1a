"""Tables whose columns sort, numbers by their value whatever is written behind it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from trainer.report.plots.amounts import amount
from trainer.report.plots.whiskers import Interval, interval_text

MISSING = {"", "-", "\u2013", "\u2014", "none", "no figure", "n/a", "nan"}
"""Cells without a value; they stay last in either order."""

_FACTORS = {
    **{"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "%": 1e-2, "k%": 10.0},
    **{"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
    **{"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12},
}
"""What a unit is worth; any other is worth 1."""
_SECONDS = {
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_NUMBER = re.compile(
    r"[<>\u2264\u2265\u2248~]?\s*"
    r"(?P<number>[+\-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+\-\u2212]?\d+)?)"
    r"(?:\s?(?P<unit>" + "|".join([*_FACTORS, *_SECONDS, "x", "B"]) + r"))?(?:/[A-Za-z]+)?"
    r"(?=$|[,;]?\s|[(\[\u00b1])"
)


@dataclass(frozen=True)
class ValuedText:
    """A cell that is shown as `text` and sorts by `value`."""

    text: str
    value: float

    @property
    def is_missing(self) -> bool:
        """Whether the text says that there is nothing."""
        return self.text.strip().lower() in MISSING


Cell = str | int | float | Interval | ValuedText | None
"""Text, a number, a figure with its interval, or nothing."""


@dataclass(frozen=True)
class DataTable:
    """Rows under named columns; the first cell of a row is its name.

    A column all of whose cells begin with a number ("0.81 (0.77-0.85)", "12 GiB") sorts by value
    and stands at the right. ValueError where a row has another number of cells than columns.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str

    def __post_init__(self) -> None:
        """Refuse a row that does not fit."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.caption}: a row of {len(row)} cells under {len(self.columns)} columns"
                )

    @property
    def body(self) -> list[list[ValuedText]]:
        """The cells as they are shown; the value is NaN where the cell has none."""
        return [[_valued(cell) for cell in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Of each column whether all its cells that are not missing, if any, have values."""
        return [self._is_numeric(place) for place in range(len(self.columns))]

    def _is_numeric(self, place: int) -> bool:
        cells = [_valued(row[place]) for row in self.rows]
        there = [cell for cell in cells if not cell.is_missing]
        return all(math.isfinite(cell.value) for cell in there)


def value_of(text: str) -> float:
    """The number that a text begins with, in terms of its unit; NaN where it begins otherwise."""
    text = text.strip()
    found = _NUMBER.match(text)
    if not found:
        return math.nan
    value = _scaled(found)
    while found["unit"] in _SECONDS:  # 2 h 14 min
        more = _NUMBER.match(text, found.end() + 1)
        if not more or more["unit"] not in _SECONDS:
            break
        found, value = more, value + _scaled(more)
    return value


def _scaled(found: re.Match[str]) -> float:
    number = found["number"].replace(",", "").replace("\u2212", "-")
    unit = (found["unit"] or "").partition("/")[0]
    return float(number) * (_FACTORS | _SECONDS).get(unit, 1.0)


def _valued(cell: Cell) -> ValuedText:
    if isinstance(cell, ValuedText):
        return cell
    if cell is None:
        return ValuedText("\u2013", math.nan)
    if isinstance(cell, str):
        return ValuedText(cell, value_of(cell))
    if isinstance(cell, tuple):
        return ValuedText(interval_text(cell), cell[0])
    if isinstance(cell, bool):
        return ValuedText("yes" if cell else "no", math.nan)
    if isinstance(cell, int):
        return ValuedText(f"{cell:,}".replace("-", "\u2212"), float(cell))
    return ValuedText(amount(cell) if math.isfinite(cell) else "no figure", cell)
