"""Figures over several seeds, and how two conditions differ, each with a 95% interval.

The interval is over seeds and items: every resample draws as many seeds as there are, with
replacement, and, the same for all of them, as many items (whole clusters of them, within strata,
where the figure has such). Of two conditions the same seeds and items are drawn. Three seeds tell
little of seeds: an interval over them is rather too narrow than too wide. Source: Davison and
Hinkley, "Bootstrap Methods and their Application", 1997, 3.8.
"""

import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import DataError
from trainer.evaluate.records import FAILED, file_name
from trainer.evaluate.suites.suite import FigureKind, ItemRecord

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 400

Comparison = Callable[[float, float], float]
"""Of a figure after and before."""
SeedRecords = Sequence[Mapping[str, ItemRecord]]
"""For each seed the records of one suite, by item."""


@dataclass(frozen=True)
class SeededFigure:
    """A figure, or a difference of two: the mean over seeds, its 95% interval, items and seeds."""

    value: float
    low: float
    high: float
    items: int
    seeds: int

    def as_json(self) -> dict[str, Any]:
        """Its parts as JSON, where NaN is null."""
        numbers = [self.value, self.low, self.high]
        value, low, high = (number if math.isfinite(number) else None for number in numbers)
        return {"value": value, "interval": [low, high], "items": self.items, "seeds": self.seeds}

    def __str__(self) -> str:
        """As a cell of a table."""
        if not math.isfinite(self.value):
            return "-"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def read_records(folder: Path, suite: str) -> dict[str, ItemRecord]:
    """The answered items of a suite, by id, in the order in which they were asked.

    Raises DataError where there are none.
    """
    path = folder / f"{file_name(suite)}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; measure again") from None
    records = [json.loads(line) for line in lines if line]
    return {one["id"]: one for one in records if FAILED not in one}


def figure_over_seeds(kind: FigureKind, records: SeedRecords, seed: int = 0) -> SeededFigure | None:
    """The figure's mean over the seeds; None where no item counts for it."""
    return _resampled(kind, [records], seed)


def value_of_seed(kind: FigureKind, records: Mapping[str, ItemRecord]) -> float:
    """The figure of one seed's records; NaN where no item counts for it."""
    numbers, counts = _rows(kind, records, list(records))
    return kind.reduce(numbers[counts]) if counts.any() else math.nan


def difference_over_seeds(
    kind: FigureKind,
    before: SeedRecords,
    after: SeedRecords,
    seed: int = 0,
    compare: Comparison = operator.sub,
) -> SeededFigure | None:
    """The figure after less the figure before, by the same seeds and items.

    `compare`: what is made of the two instead, as their ratio.
    """
    assert len(before) == len(after), "each seed has both conditions"
    return _resampled(kind, [before, after], seed, compare)


def _resampled(
    kind: FigureKind,
    conditions: Sequence[SeedRecords],
    seed: int,
    compare: Comparison = operator.sub,
) -> SeededFigure | None:
    import numpy as np

    seeds = len(conditions[0])
    first = {name: one for records in conditions for run in records for name, one in run.items()}
    rows = [[_rows(kind, run, list(first)) for run in records] for records in conditions]
    counting = [any(run[1][n] for records in rows for run in records) for n in range(len(first))]
    counted = [n for n, counts in enumerate(counting) if counts]
    if not counted or not all(run[1].any() for records in rows for run in records):
        return None
    draws = np.random.default_rng(seed)
    values = [
        _value(kind, rows, draws.integers(seeds, size=seeds), items, compare)
        for items in _drawn(kind, [*first.values()], counted, draws)
    ]
    whole = np.array([value for value in values if math.isfinite(value)])
    low, high = np.percentile(whole, [2.5, 97.5]) if len(whole) else (math.nan, math.nan)
    value = _value(kind, rows, range(seeds), counted, compare)
    return SeededFigure(value, float(low), float(high), len(counted), seeds)


def _rows(
    kind: FigureKind, run: Mapping[str, ItemRecord], names: Sequence[str]
) -> tuple["np.ndarray", "np.ndarray"]:
    """[items, numbers], and whether each item counts here."""
    import numpy as np

    found = [kind.row(run[name]) if name in run else None for name in names]
    width = max((len(row) for row in found if row is not None), default=1)
    rows = [[0.0] * width if row is None else row for row in found]
    return np.array(rows, dtype=np.float64), np.array([row is not None for row in found])


def _drawn(
    kind: FigureKind,
    records: Sequence[ItemRecord],
    counted: Sequence[int],
    draws: "np.random.Generator",
) -> Iterator["np.ndarray"]:
    """The items of each resample: whole clusters, as many of each stratum as there are."""
    import numpy as np

    clusters: dict[Any, list[int]] = {}
    for number in counted:
        cluster = number if kind.cluster is None else kind.cluster(records[number])
        clusters.setdefault(cluster, []).append(number)
    strata: dict[Any, list[np.ndarray]] = {}
    for members in clusters.values():
        stratum = None if kind.stratum is None else kind.stratum(records[members[0]])
        strata.setdefault(stratum, []).append(np.array(members))
    for _ in range(min(RESAMPLES, kind.resamples or RESAMPLES)):
        yield np.concatenate(
            [
                units[index]
                for units in strata.values()
                for index in draws.integers(len(units), size=len(units))
            ]
        )


def _value(
    kind: FigureKind,
    rows: Sequence[Sequence[tuple["np.ndarray", "np.ndarray"]]],
    seeds: "Sequence[int] | np.ndarray",
    items: "Sequence[int] | np.ndarray",
    compare: Comparison,
) -> float:
    """The mean over seeds of the figure, of two conditions compared."""
    found = []
    for records in rows:
        of_seeds = []
        for number in seeds:
            numbers, counts = records[number]
            chosen = numbers[items][counts[items]]
            of_seeds.append(kind.reduce(chosen) if len(chosen) else math.nan)
        found.append(sum(of_seeds) / len(of_seeds))
    return compare(found[-1], found[0]) if len(found) > 1 else found[0]
