"""A figure with its interval, as a marker with whiskers and as text."""

import math

from trainer.report.plots.amounts import amount
from trainer.report.plots.axes import Frame
from trainer.report.plots.canvas import Canvas, number
from trainer.report.plots.style import LineStyle

Interval = tuple[float, float, float]
"""A figure with its 95% interval: value, low, high; NaN where one is not defined."""


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


def interval_ends(figure: Interval | None) -> list[float]:
    """What of it has a place on a scale."""
    if figure is None or not math.isfinite(figure[0]):
        return []
    return [end for end in figure if math.isfinite(end)]


def interval_text(figure: Interval | None) -> str:
    """The figure and its interval as text."""
    if figure is None or not math.isfinite(figure[0]):
        return "no figure"
    value, low, high = (amount(end) for end in figure)
    return value if "none" in (low, high) else f"{value} [{low}, {high}]"
