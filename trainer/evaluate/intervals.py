"""Figures with their 95% intervals, by resampling items: Efron, "Bootstrap Methods", 1979."""

import math
import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trainer.evaluate.suites.suite import FigureKind, ItemRecord, mean, ratio

RESAMPLES = 1000
_AT_ONCE = 1 << 22
"""Counts of resampled items that are held at a time."""


@dataclass(frozen=True)
class Figure:
    """A figure of a suite.

    `value`: NaN where it is not defined; `items`: how many it is over; `low`, `high`: its 95%
    interval; `in_corpus`: how many of its items stand in the run's own training text, None where no
    corpus was searched; `better`: which way is good.
    """

    value: float
    items: int
    low: float
    high: float
    in_corpus: int | None = None
    better: Literal["higher", "lower"] | None = None

    def as_json(self) -> dict[str, Any]:
        """Its parts as JSON, where NaN is null."""
        return {
            "value": _number(self.value),
            "items": self.items,
            "interval": [_number(self.low), _number(self.high)],
            "in_corpus": self.in_corpus,
            "better": self.better,
        }

    @classmethod
    def of_json(cls, parts: dict[str, Any]) -> "Figure":
        """The figure that `as_json` described."""
        value, low, high = (
            math.nan if number is None else float(number)
            for number in (parts["value"], *parts["interval"])
        )
        return cls(value, parts["items"], low, high, parts["in_corpus"], parts["better"])


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def figure_of(
    name: str,
    kind: FigureKind,
    records: Sequence[ItemRecord],
    seed: int = 0,
    in_corpus: Callable[[ItemRecord], bool] | None = None,
) -> Figure | None:
    """The figure `name` over the records that count for it; None where none does.

    `seed`: of the resampling, which follows from it and the name alone; `in_corpus`: whether an
    item's passage stands in the training text (None: not searched).
    """
    counted = [(record, row) for record in records if (row := kind.row(record)) is not None]
    if not counted:
        return None
    rows = np.array([row for _, row in counted], dtype=np.float64)
    clusters = None if kind.cluster is None else [kind.cluster(record) for record, _ in counted]
    strata = None if kind.stratum is None else [kind.stratum(record) for record, _ in counted]
    draws, resamples = [seed, zlib.crc32(name.encode())], kind.resamples or RESAMPLES
    low, high = interval(rows, kind.reduce, draws, clusters, strata, resamples)
    found = None if in_corpus is None else sum(in_corpus(record) for record, _ in counted)
    return Figure(kind.reduce(rows), len(rows), low, high, found, kind.better)


def interval(
    rows: np.ndarray,
    reduce: Callable[[np.ndarray], float],
    seed: Sequence[int],
    clusters: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentiles of a figure over so many resamples of its items.

    `rows`: fp64 [items, numbers]; `clusters`: of each item, what it has in common with those that
    are drawn with it (None: each is drawn for itself); as many clusters are drawn as there are;
    `strata`: of each item, among which it is drawn (None: among all), the same within a cluster.
    Resamples in which the figure is not defined are left out; NaN where it is defined in none. The
    percentile method: a share of 0 or 1 gets an interval of no width, however few its items are.
    Source of clusters and strata: Davison and Hinkley, "Bootstrap Methods and their Application",
    1997, 3.8 and 3.2.
    """
    members = _members(clusters)
    draws, units = np.random.default_rng(list(seed)), len(rows if members is None else members)
    parts = [np.arange(units)]
    if strata is not None:
        firsts = range(units) if members is None else [one[0] for one in members]
        parts = _members([strata[first] for first in firsts]) or []
    totals = rows if members is None else np.array([rows[one].sum(axis=0) for one in members])
    sizes = np.array([len(one) for one in members] if members else np.ones(units))
    values: list[np.ndarray] = []
    step = max(1, _AT_ONCE // units)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        if reduce in (mean, ratio):
            # Sums over a resample follow from how often it holds each item.
            times = np.empty((count, units), dtype=np.int64)
            for part in parts:
                even = np.full(len(part), 1 / len(part))
                times[:, part] = draws.multinomial(len(part), even, size=count)
            sums = times @ totals
            below = times @ sizes if reduce is mean else sums[:, 1]
            with np.errstate(invalid="ignore", divide="ignore"):
                values.append(sums[:, 0] / below)
        else:
            drawn = [part[draws.integers(len(part), size=(count, len(part)))] for part in parts]
            chosen: Iterable[np.ndarray] = np.concatenate(drawn, axis=1)
            if members is not None:
                chosen = (np.concatenate([members[unit] for unit in one]) for one in chosen)
            values.append(np.array([reduce(rows[indices]) for indices in chosen]))
    whole = np.concatenate(values)
    whole = whole[np.isfinite(whole)]
    if not len(whole):
        return math.nan, math.nan
    low, high = np.percentile(whole, [2.5, 97.5])
    return float(low), float(high)


def _members(clusters: Sequence[Hashable] | None) -> list[np.ndarray] | None:
    """The indices of the items of each cluster."""
    if clusters is None:
        return None
    found: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters):
        found.setdefault(cluster, []).append(index)
    return [np.array(indices) for indices in found.values()]
