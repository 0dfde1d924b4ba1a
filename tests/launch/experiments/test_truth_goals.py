"""The goals of the experiment on truth, and what of a figure they are read from."""

import pytest

from launch.experiments.over_seeds import SeededFigure, difference_over_seeds
from launch.experiments.truth.goals import GOALS, Goal
from trainer.evaluate.suites.suite import FigureKind, ItemRecord

BY_FIGURE = {goal.figure: goal for goal in GOALS}
KIND = FigureKind("a share", lambda record: (record["x"],))


def records(values: list[float]) -> dict[str, ItemRecord]:
    """An item a value."""
    return {str(index): {"id": str(index), "x": value} for index, value in enumerate(values)}


@pytest.mark.parametrize(
    ("figure", "reached", "missed"),
    [
        ("hallucination", 0.5, 0.51),
        ("accuracy", -0.05, -0.06),
        ("over_refusal", 0.1, 0.11),
        ("followed", 0.98, 0.97),
        ("bits_per_byte", 1.02, 1.03),
        ("gap", 0.0, 0.01),
    ],
)
def test_each_goal_is_reached_at_its_bound_and_missed_beyond(
    figure: str, reached: float, missed: float
) -> None:
    """Would catch a goal turned round, and one that an interval across its bound makes sure."""
    goal = BY_FIGURE[figure]
    assert goal.verdict(_sure(reached)) == "met"
    assert goal.verdict(_sure(missed)) == "MISSED"
    low, high = sorted((reached, missed))
    assert goal.verdict(SeededFigure(missed, low, high, 500, 3)) == "MISSED, not surely"
    assert goal.verdict(SeededFigure(reached, low, high, 500, 3)) == "met, not surely"
    assert goal.verdict(_sure(float("nan"))) == "not defined"


def _sure(value: float) -> SeededFigure:
    return SeededFigure(value, value, value, 500, 3)


def _compared(goal: Goal, before: list[float], after: list[float]) -> float:
    assert goal.compare is not None
    found = difference_over_seeds(
        KIND, [records(before)] * 2, [records(after)] * 2, compare=goal.compare
    )
    assert found is not None and found.low <= found.value <= found.high
    return found.value


def test_what_is_compared_is_the_share_of_the_base_or_the_points_from_it() -> None:
    """Would catch base and model changed places: half as many inventions would be twice as many."""
    base, half = [1.0] * 8, [1.0, 0.0] * 4
    assert _compared(BY_FIGURE["hallucination"], base, half) == 0.5
    assert _compared(BY_FIGURE["accuracy"], base, half) == -0.5
    assert _compared(BY_FIGURE["hallucination"], half, half) == 1.0
