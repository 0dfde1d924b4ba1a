"""Curves of truth: risk by coverage, knowledge by occurrences, and what a cure costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.report.plots.amounts import amount
from trainer.report.plots.axes import Frame, axes, legend, stroke_line
from trainer.report.plots.canvas import Canvas, drawing, number
from trainer.report.plots.lettering import TEXT, text_width
from trainer.report.plots.plotted import Series, paint_line, plotted
from trainer.report.plots.scale import extent
from trainer.report.plots.style import LineStyle, line_style, property_of
from trainer.report.plots.trade_off import TradeOffPoint, trade_off
from trainer.report.plots.whiskers import Interval, interval_ends, interval_text, whiskers

__all__ = ["BucketSeries", "TradeOffPoint", "occurrence", "risk_coverage", "trade_off"]

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
        for line in lines:
            paint_line(canvas, frame, line, _COLUMNS, markers=len(lines) > 1)
        levels = [(rate, f"all answered: {amount(rate)}", colour) for rate, colour in rates]
        _paint_levels(canvas, frame, levels, "start")

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
    drawn = [end for one in series for figure in one.values for end in interval_ends(figure)]
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
        for turn, one in enumerate(series):
            # Side by side: intervals on one place would hide each other.
            shift = 0.14 * (turn - (len(series) - 1) / 2)
            _paint_buckets(canvas, frame, one, line_style(turn), shift)
        colour = property_of("plot-text")
        levels = [(level, f"{name}: {amount(level)}", colour) for name, level in lines.items()]
        _paint_levels(canvas, frame, levels, "end")

    told = [
        f"{one.name}: "
        + "; ".join(
            f"{name} {interval_text(figure)}"
            for (_, name), figure in zip(ticks, one.values, strict=True)
        )
        + "."
        for one in series
    ]
    told += [f"{name}: {amount(level)}." for name, level in lines.items()]
    return drawing(title, ("Shares by the number of occurrences.", *told), paint)


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
            whiskers(canvas, frame, at, figure, style, f"{series.name}: {interval_text(figure)}")


def _frame(
    canvas: Canvas,
    horizontal: tuple[float, float],
    vertical: tuple[float, float],
    label: str,
    ticks: Sequence[tuple[float, str]] | None = None,
) -> Frame:
    height = 250 if canvas.wide else 210
    return axes(canvas, horizontal, vertical, label, height=height, x_ticks=ticks)


def _paint_levels(
    canvas: Canvas, frame: Frame, levels: Sequence[tuple[float, str, str]], anchor: str
) -> None:
    """Lines across, as (value, text, colour), each said beside one of its ends.

    A text that would stand on another's is left to the description.
    """
    bases: list[float] = []
    for value, text, colour in levels:
        y = frame.y.place(value)
        canvas.add(
            "path",
            d=f"M{number(frame.left)},{number(y)}H{number(frame.right)}",
            stroke=colour,
            stroke_dasharray="1 4",
            stroke_linecap="round",
            stroke_width=1.6,
        )
        free = (
            base
            for base in (y - 5, y + 15, y - 21, y + 31)
            if frame.top + TEXT <= base <= frame.bottom - 3
            and all(abs(base - other) >= TEXT + 2 for other in bases)
        )
        base = next(free, None)
        if base is not None and text_width(text) < frame.right - frame.left - 4:
            x = frame.right if anchor == "end" else frame.left + 4
            canvas.text(x, base, text, anchor=anchor, halo=True)
            bases.append(base)
