"""Figures over seeds: what their intervals are over."""

import math

import pytest

from launch.experiments.over_seeds import (
    difference_over_seeds,
    figure_over_seeds,
    value_of_seed,
)
from trainer.evaluate.suites.suite import FigureKind, ItemRecord

MEAN = FigureKind("the mean", lambda record: record["value"] and (record["value"],))
CLUSTERED = FigureKind("the mean", lambda record: (record["value"],), cluster=lambda r: r["of"])


def run(values: list[float | None]) -> dict[str, ItemRecord]:
    return {str(n): {"id": str(n), "value": value} for n, value in enumerate(values)}


def test_the_interval_is_over_seeds() -> None:
    """Would catch items resampled alone: seeds that differ would look like one sure figure."""
    figure = figure_over_seeds(MEAN, [run([one] * 50) for one in (1.0, 2.0, 6.0)])
    assert figure is not None
    assert (figure.value, figure.items, figure.seeds) == (3.0, 50, 3)
    # The seed is drawn thrice for itself in one of 27 resamples, more than 2.5%.
    assert (figure.low, figure.high) == (1.0, 6.0)


def test_the_interval_is_over_items() -> None:
    """Would catch seeds resampled alone: seeds that agree would make few items a sure figure."""
    figure = figure_over_seeds(MEAN, [run([1.0, 3.0] * 8)] * 3)
    assert figure is not None and figure.value == 2.0
    # Of 16 items the mean's standard deviation is 0.25; the interval is four of them wide.
    assert figure.high - figure.low == pytest.approx(4 * 0.25, abs=0.25)


def test_conditions_are_compared_on_the_same_seeds_and_items() -> None:
    """Would catch a difference drowned in what both conditions share."""
    before = [run([n * 10.0 + seed for n in range(1, 30)]) for seed in (1, 50, 900)]
    after = [
        {name: one | {"value": one["value"] + 0.5} for name, one in records.items()}
        for records in before
    ]
    figure = difference_over_seeds(MEAN, before, after)
    assert figure is not None
    assert (figure.low, figure.value, figure.high) == pytest.approx((0.5, 0.5, 0.5))


def test_clusters_are_drawn_whole() -> None:
    """Would catch a hundred questions about one occupation that count as a hundred draws."""
    alike = {str(n): {"value": float(n < 50), "of": n < 50} for n in range(100)}
    figure = figure_over_seeds(CLUSTERED, [alike])
    assert figure is not None and (figure.low, figure.value, figure.high) == (0.0, 0.5, 1.0)


def test_items_that_do_not_count_are_left_out() -> None:
    """Would catch a zero in the place of what was not measured."""
    figure = figure_over_seeds(MEAN, [run([2.0, None, 4.0])])
    assert figure is not None and (figure.value, figure.items) == (3.0, 2)
    assert figure_over_seeds(MEAN, [run([None, None])]) is None
    assert value_of_seed(MEAN, run([2.0, None, 4.0])) == 3.0
    assert math.isnan(value_of_seed(MEAN, run([None, None])))
