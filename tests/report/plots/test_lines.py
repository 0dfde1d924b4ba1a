"""Lines: of any length, with spikes, gaps and flags, and nothing in them that is not a number."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.plots.drawn import check, images, placed
from trainer.report.plots.lines import Series, line_plot

STEPS = 100_000


def drawn_heights(plot: str, image: int) -> list[float]:
    """The heights that the first line of an image passes."""
    path = next(
        one.attrib["d"]
        for one in images(plot)[image].iter("path")
        if one.get("stroke-linejoin") is not None
    )
    heights, y = [], 0.0
    for piece in re.findall(r"M[^M]*", path):
        start, _, moves = piece.partition("l")
        y = float(start[1:].removesuffix("h0").split(",")[1])
        heights.append(y)
        for move in moves.split():
            y += float(move.split(",")[1])
            heights.append(y)
    return heights


def test_a_spike_of_one_step_in_100_000_is_drawn_within_60_kb() -> None:
    """Would catch thinning that takes every n-th step, or a page that grows with the run."""
    flat = [2.0 + math.sin(step) / 100 for step in range(STEPS)]
    spiked = flat.copy()
    spiked[61_803] = 9.0
    for values, seen in ((spiked, True), (flat, False)):
        plot = line_plot([Series("run", range(STEPS), values)], "loss", "step", "nats")
        assert len(plot) < 60_000
        for image in (0, 1):
            heights = sorted(drawn_heights(plot, image))
            # The negative control: without the spike, no point stands by itself.
            assert (heights[1] - heights[0] > 100) is seen


def test_a_plot_of_many_runs_with_many_flags_stays_small() -> None:
    """Would catch points, markers or flags that are not bounded over all runs together."""
    runs = [
        Series(
            f"run {number}",
            range(20_000),
            [math.sin(step * (number + 1)) for step in range(20_000)],
            [(step, "skipped") for step in range(0, 20_000, 7)],
        )
        for number in range(8)
    ]
    plot = line_plot(runs, "loss", "step", "nats")
    check(plot)
    assert len(plot) < 60_000


def test_text_from_data_is_never_markup() -> None:
    """Would catch a run's name that ends an element, or begins a script."""
    bad = '</title><script>alert("1")</script>&amp;\x00\ud800'
    plot = line_plot([Series(bad, [1, 2], [1, 2], [(1, bad)])] * 2, bad, bad, bad)
    check(plot)
    assert "<script" not in plot
    assert any("<script>" in one.text for one in placed(images(plot)[0]))


def test_nothing_to_draw_is_refused() -> None:
    """Would catch an empty frame where the page should say that nothing was measured."""
    for series in ([], [Series("a", [], [])], [Series("a", [1, 2], [None, math.nan])]):
        with pytest.raises(ValueError, match="loss: no value"):
            line_plot(series, "loss", "step", "nats")
    with pytest.raises(ValueError, match="loss: no value"):
        line_plot([Series("a", [1, 2], [-1, 0])], "loss", "step", "nats", log_y=True)
    with pytest.raises(ValueError, match="2 values of x, 1 of y"):
        line_plot([Series("a", [1, 2], [1])], "loss", "step", "nats")


def test_a_gap_breaks_the_line() -> None:
    """Would catch a skipped step over which the line is drawn as if it had been measured."""
    whole = line_plot([Series("a", range(5), [1, 2, 3, 4, 5])], "t", "x", "y")
    broken = line_plot([Series("a", range(5), [1, 2, None, 4, 5])], "t", "x", "y")
    lines = [
        next(one.attrib["d"] for one in images(plot)[0].iter("path") if one.get("stroke-linejoin"))
        for plot in (whole, broken)
    ]
    assert [line.count("M") for line in lines] == [1, 2]


def test_equal_data_give_equal_text_and_other_data_other_ids() -> None:
    """Would catch ids that clash on a page, or a report that differs from run to run."""
    first, again, other = (
        line_plot([Series("a", [1, 2], [1, last])], "t", "x", "y") for last in (2, 2, 3)
    )
    assert first == again
    assert not set(re.findall(r' id="([^"]+)"', first)) & set(re.findall(r' id="([^"]+)"', other))


VALUES = st.one_of(st.none(), st.floats(), st.floats(-1e3, 1e3), st.integers(-5, 5).map(float))


@pytest.mark.parametrize("value", [1.25e300, -1.7e308])
def test_a_value_beyond_what_is_drawn_stands_at_the_end(value: float) -> None:
    """Would catch an axis that runs backwards, where all values lie beyond one end."""
    check(line_plot([Series("loss", [0.0], [value])], "Loss", "step", "nats"))


@pytest.mark.parametrize(
    "values", [(1.0, 6e-305), (5e-324, 1e-300), (1e-3, 1.7e308), (1.0, 2.5e296)]
)
def test_a_log_axis_spans_all_that_a_float_can_be(values: tuple[float, float]) -> None:
    """Would catch powers of ten beyond a float's range among the ticks that are tried."""
    check(line_plot([Series("loss", [0.0, 1.0], values)], "Loss", "step", "nats", log_y=True))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    points=st.lists(st.lists(st.tuples(st.floats(), VALUES), max_size=30), min_size=1, max_size=4),
    name=st.text(max_size=60),
    log=st.booleans(),
)
def test_odd_data_are_drawn_or_refused(
    points: list[list[tuple[float, float | None]]], name: str, log: bool
) -> None:
    """Would catch NaN in a coordinate, an overflow, a label outside the image or over another."""
    series = [
        Series(name, [x for x, _ in one], [y for _, y in one], [(x, name) for x, _ in one[:3]])
        for one in points
    ]
    try:
        plot = line_plot(series, name, name, name, log_y=log)
    except ValueError as error:
        assert "no value to draw" in str(error)
    else:
        check(plot)
