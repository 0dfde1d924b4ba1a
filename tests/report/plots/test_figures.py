"""Intervals, funnels and curves: every odd figure is drawn, said to be missing, or refused."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.plots.drawn import check, images, placed
from trainer.report.plots.bars import IntervalRow, funnel, interval_bars
from trainer.report.plots.canvas import svg_file
from trainer.report.plots.curves import (
    BucketSeries,
    TradeOffPoint,
    occurrence,
    risk_coverage,
    trade_off,
)
from trainer.report.plots.lines import Series

FIGURES = st.tuples(st.floats(), st.floats(), st.floats())
NAMES = st.text(max_size=40)


def texts(plot: str) -> set[str]:
    return {one.text for one in placed(images(plot)[0])}


def test_a_funnel_says_what_each_step_took() -> None:
    """Would catch a percentage of the first count where that of the step is meant."""
    plot = funnel([("read", 2000), ("language", 1000), ("rules", 900)], "Funnel", "documents")
    check(plot)
    assert {"2,000", "1,000", "\u221250%", "900", "\u221210%"} <= texts(plot)
    for rows in ([], [("read", 0)], [("read", math.nan)], [("read", 5), ("rules", -1)]):
        with pytest.raises(ValueError, match="Funnel: no counts"):
            funnel(rows, "Funnel", "documents")


def test_a_figure_that_is_not_defined_is_said_to_be_none() -> None:
    """Would catch a stage that vanishes from the page since its figure is NaN."""
    rows = [
        IntervalRow("base", "accuracy", 0.5, 0.4, 0.6),
        IntervalRow("cured", "accuracy", math.nan, math.nan, math.nan),
    ]
    plot = interval_bars(rows, "Figures", "share")
    check(plot)
    assert {"0.5 [0.4, 0.6]", "no figure", "base", "cured", "accuracy"} <= texts(plot)
    with pytest.raises(ValueError, match="no figure"):
        interval_bars(rows[1:], "Figures", "share")


def test_each_point_of_a_trade_off_is_named() -> None:
    """Would catch a label that is dropped where many points lie together."""
    points = [
        TradeOffPoint(f"model {number}", (0.5, 0.4, 0.6), (0.5, 0.4, 0.6), "line")
        for number in range(14)
    ]
    plot = trade_off(points, goal=(0.4, 0.6))
    check(plot)
    for image in images(plot):
        named = {one.text for one in placed(image)}
        assert {point.label for point in points} | {"goal"} <= named


def test_a_model_on_two_lines_is_drawn_once() -> None:
    """Would catch a name written twice, and a line that leaves out where both begin."""
    base, first, second = (
        TradeOffPoint(name, (at, at, at), (at, at, at))
        for name, at in (("base", 0.9), ("first", 0.5), ("second", 0.2))
    )
    joined = [replace(one, line=end.label) for end in (first, second) for one in (base, end)]
    plot = trade_off([base, *joined])
    check(plot)
    for image in images(plot):
        named = [one.text for one in placed(image)]
        assert [named.count(one.label) for one in (base, first, second)] == [1, 1, 1]
        lines = [
            path.attrib["d"].split("L")
            for path in image.iter("path")
            if path.findtext("title") in ("first", "second")
        ]
        assert [len(places) for places in lines] == [2, 2] and lines[0][0] == lines[1][0]
    assert plot.count("base: hallucination") == trade_off([base]).count("base: hallucination")


def test_a_file_of_a_drawing_stands_by_itself() -> None:
    """Would catch a picture in a README without its colours, or one that is not SVG."""
    plot = risk_coverage([Series("base", [0.5, 1.0], [0.1, 0.3])])
    file = svg_file(plot)
    assert file.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "--series-1:" in file and file.endswith("</svg>")


Draw = Callable[[], str]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, FIGURES, FIGURES), max_size=6), NAMES)
def test_odd_figures_are_drawn_or_refused(
    rows: list[tuple[str, tuple[float, float, float], tuple[float, float, float]]], name: str
) -> None:
    """Would catch NaN in a coordinate, an overflow, a label outside the image or over another."""
    drawers: list[Draw] = [
        lambda: interval_bars([IntervalRow(a, name, *b) for a, b, _ in rows], name, name),
        lambda: funnel([(a, b[0]) for a, b, _ in rows], name, name),
        lambda: trade_off([TradeOffPoint(a, b, c, name) for a, b, c in rows], name, name, name),
        lambda: risk_coverage([Series(a, b, c) for a, b, c in rows], name),
        lambda: occurrence([BucketSeries(a, [b, c, None]) for a, b, c in rows], "abc", name),
    ]
    for draw in drawers:
        try:
            plot = draw()
        except ValueError as error:
            assert "no " in str(error)
        else:
            check(plot)
