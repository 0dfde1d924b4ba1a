"""Curves of truth: risk by coverage, knowledge by occurrences, and what a cure costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.report.plots.amounts import amount
from trainer.report.plots.axes import Frame, axes, legend, stroke_line
from trainer.report.plots.canvas import Canvas, drawing, number
from trainer.report.plots.lettering import text_width
from trainer.report.plots.plotted import Series, paint_line, plotted
from trainer.report.plots.scale import extent
from trainer.report.plots.style import LineStyle, line_style, property_of

Interval = tuple[float, float, float]
"""A figure with its 95% interval: value, low, high; NaN where one is not defined."""

_COLUMNS = 160


@dataclass(frozen=True)
class BucketSeries:
    """One figure by groups of occurrences; None where a group has no items."""

    name: str
    values: Sequence[Interval | None]


def risk_coverage(
    series: Sequence[Series], title: str = "Risk by coverage", base_rate: float | None = None
) -> str:
    """The share of wrong answers among the most confident share of them, a line a model.

    `series`: x is the coverage, y the risk, from 0 to 1; `base_rate`: the share of wrong answers
    where all count, None for each line's own at its greatest coverage. ValueError without a value.
    """
    lines = [plotted(one, turn) for turn, one in enumerate(series)]
    if not any(len(line.drawn) for line in lines):
        raise ValueError(f"{title}: no value to draw")
    whole = property_of("plot-text")
    rates = [(float(line.drawn[-1]), line.style.colour) for line in lines if len(line.drawn)]
    if base_rate is not None and math.isfinite(base_rate):
        rates = [(base_rate, whole)]
    risks = [float(risk) for line in lines for risk in line.drawn]
    high = extent([0.0, *risks, *(rate for rate, _ in rates)])[1]

    def paint(canvas: Canvas) -> None:
        canvas.heading(title, "risk: share of wrong answers among those given")
        if len(lines) > 1:
            legend(canvas, [(line.named, line.style) for line in lines])
        frame = _frame(canvas, (0.0, 1.0), (0.0, high), "coverage: share answered, surest first")
        for rate, colour in rates:
            _level(canvas, frame, rate, f"all answered: {amount(rate)}", colour, "start")
        for line in lines:
            paint_line(canvas, frame, line, _COLUMNS, markers=len(lines) > 1)

    told = [
        f"{line.name or 'The model'}: {amount(float(line.drawn[0]))} at the least coverage, "
        f"{amount(float(line.drawn[-1]))} at the greatest."
        for line in lines
        if len(line.drawn)
    ]
    return drawing(title, ("The share of wrong answers by coverage.", *told), paint)


def occurrence(
    series: Sequence[BucketSeries],
    buckets: Sequence[str],
    title: str = "What is known, by how often the text says it",
    levels: Mapping[str, float] | None = None,
) -> str:
    """Figures by groups of numbers of occurrences, evenly apart, with their intervals.

    `buckets`: the groups' names, one a value of each series; `levels`: lines across by name, such
    as a bound. ValueError without a figure, or where their number is not that of the buckets.
    """
    if any(len(one.values) != len(buckets) for one in series):
        raise ValueError(f"{title}: a series has not one value a bucket")
    drawn = [end for one in series for figure in one.values for end in _ends(figure)]
    if not drawn:
        raise ValueError(f"{title}: no figure to draw")
    lines = {name: level for name, level in (levels or {}).items() if math.isfinite(level)}
    low, high = extent([*drawn, *lines.values()])
    low, high = (min(low, 0.0) if min(drawn) < 0 else 0.0), high
    ticks = [(float(place), name.replace("_", " ")) for place, name in enumerate(buckets)]

    def paint(canvas: Canvas) -> None:
        canvas.heading(title, "share of facts, with 95% intervals")
        legend(canvas, [(one.name, line_style(turn)) for turn, one in enumerate(series)])
        label = "sentences of the training text with the fact"
        frame = _frame(canvas, (-0.5, len(buckets) - 0.5), (low, high), label, ticks)
        for name, level in lines.items():
            _level(canvas, frame, level, f"{name}: {amount(level)}", property_of("plot-text"))
        for turn, one in enumerate(series):
            # Side by side: intervals on one place would hide each other.
            shift = 0.14 * (turn - (len(series) - 1) / 2)
            _paint_buckets(canvas, frame, one, line_style(turn), shift)

    told = [
        f"{one.name}: "
        + "; ".join(
            f"{name} {_told(figure)}" for (_, name), figure in zip(ticks, one.values, strict=True)
        )
        + "."
        for one in series
    ]
    told += [f"{name}: {amount(level)}." for name, level in lines.items()]
    return drawing(title, ("Shares by the number of occurrences.", *told), paint)


def whiskers(
    canvas: Canvas, frame: Frame, x: Interval, y: Interval, style: LineStyle, hint: str
) -> None:
    """A marker at the values of x and y, with the intervals that each has."""
    (at_x, low_x, high_x), (at_y, low_y, high_y) = x, y
    mid_x, mid_y, path = frame.x.place(at_x), frame.y.place(at_y), ""
    if math.isfinite(low_x) and math.isfinite(high_x):
        ends = [number(frame.x.place(end)) for end in (low_x, high_x)]
        path += f"M{ends[0]},{number(mid_y)}H{ends[1]}"
        path += "".join(f"M{end},{number(mid_y - 4)}v8" for end in ends)
    if math.isfinite(low_y) and math.isfinite(high_y):
        ends = [number(frame.y.place(end)) for end in (low_y, high_y)]
        path += f"M{number(mid_x)},{ends[0]}V{ends[1]}"
        path += "".join(f"M{number(mid_x - 4)},{end}h8" for end in ends)
    if path:
        canvas.add("path", d=path, fill="none", stroke=style.colour, stroke_width=1.4)
    canvas.marker(mid_x, mid_y, style.marker, style.colour, hint)


def _paint_buckets(
    canvas: Canvas, frame: Frame, series: BucketSeries, style: LineStyle, shift: float
) -> None:
    path, pen = "", "M"
    for place, figure in enumerate(series.values):
        if figure is None or not math.isfinite(figure[0]):
            pen = "M"
            continue
        path += f"{pen}{number(frame.x.place(place + shift))},{number(frame.y.place(figure[0]))}"
        pen = "L"
    if path:
        stroke_line(canvas, path, style)
    for place, figure in enumerate(series.values):
        if figure is not None and math.isfinite(figure[0]):
            at = (place + shift, math.nan, math.nan)
            whiskers(canvas, frame, at, figure, style, f"{series.name}: {_told(figure)}")


def _frame(
    canvas: Canvas,
    horizontal: tuple[float, float],
    vertical: tuple[float, float],
    label: str,
    ticks: Sequence[tuple[float, str]] | None = None,
) -> Frame:
    height = 250 if canvas.wide else 210
    return axes(canvas, horizontal, vertical, label, height=height, x_ticks=ticks)


def _level(
    canvas: Canvas, frame: Frame, value: float, text: str, colour: str, anchor: str = "end"
) -> None:
    """A line across at a value, said above one of its ends, or below it at the top."""
    y = frame.y.place(value)
    canvas.add(
        "path",
        d=f"M{number(frame.left)},{number(y)}H{number(frame.right)}",
        stroke=colour,
        stroke_dasharray="1 4",
        stroke_linecap="round",
        stroke_width=1.6,
    )
    above = y - 5 if y - 16 > frame.top else y + 15
    if text_width(text) < frame.right - frame.left:
        x = frame.right if anchor == "end" else frame.left + 4
        canvas.text(x, above, text, anchor=anchor)


def _ends(figure: Interval | None) -> list[float]:
    if figure is None or not math.isfinite(figure[0]):
        return []
    return [end for end in figure if math.isfinite(end)]


def _told(figure: Interval | None) -> str:
    if figure is None or not math.isfinite(figure[0]):
        return "no figure"
    value, low, high = (amount(end) for end in figure)
    return value if "none" in (low, high) else f"{value} [{low}, {high}]"
