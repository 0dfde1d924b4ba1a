"""Figures with their intervals, and what is left after each step of a funnel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from trainer.report.plots.amounts import count, share
from trainer.report.plots.axes import x_labels
from trainer.report.plots.canvas import Canvas, drawing, element, hint_of, number, room_for
from trainer.report.plots.lettering import TEXT, shortened, text_width
from trainer.report.plots.scale import Scale, extent
from trainer.report.plots.style import LineStyle, line_style, property_of
from trainer.report.plots.whiskers import interval_ends, interval_text

_ROW, _STACKED_ROW = 24, 42
"""Heights of a row with its label beside the data, and above them."""
_BAR = 14


@dataclass(frozen=True)
class IntervalRow:
    """A figure with its 95% interval; NaN where one is not defined.

    `group`: the heading that it stands under; rows of one label look alike in all groups.
    """

    label: str
    group: str
    value: float
    low: float
    high: float

    @property
    def told(self) -> str:
        """The figure and its interval as text."""
        return interval_text((self.value, self.low, self.high))

    @property
    def drawn(self) -> list[float]:
        """What of it has a place on a scale."""
        return interval_ends((self.value, self.low, self.high))


def interval_bars(rows: Sequence[IntervalRow], title: str, x_label: str) -> str:
    """A marker with its whiskers for each row, under the groups in the order they come.

    ValueError where no row has a figure.
    """
    drawn = [end for row in rows for end in row.drawn]
    if not drawn:
        raise ValueError(f"{title}: no figure to draw")
    ends = extent(drawn)
    groups = list(dict.fromkeys(row.group for row in rows))
    labels = list(dict.fromkeys(row.label for row in rows))
    looks = {label: line_style(number) for number, label in enumerate(labels)}

    def paint(canvas: Canvas) -> None:
        canvas.heading(title)
        values = room_for(row.told for row in rows) + 8
        left = 2.0
        right = canvas.width - 10.0
        if canvas.wide:
            left += min(room_for(labels) + 18, canvas.width * 0.34)
            right -= values
        scale, top = Scale(*ends, start=left + 8, end=right), canvas.height
        grid = len(canvas.parts)
        for group in groups:
            if group:
                canvas.height += TEXT + 8
                heading = shortened(group, canvas.width - 8, bold=True)
                canvas.text(2, canvas.height, heading, bold=True, halo=True)
                canvas.height += 3
            for row in rows:
                if row.group == group:
                    _paint_row(canvas, row, scale, looks[row.label])
        _paint_axis(canvas, scale, top, grid, x_label)

    told = (f"{row.group}, {row.label}: {row.told}." for row in rows)
    return drawing(title, (f"{x_label}, with 95% intervals.", *told), paint)


def _paint_row(canvas: Canvas, row: IntervalRow, scale: Scale, style: LineStyle) -> None:
    """The label, the whiskers with their marker, and the numbers at the right."""
    right, told = canvas.width - 4.0, row.told
    room = scale.start - 18 if canvas.wide else right - text_width(told) - 20
    label = shortened(row.label, room)
    base = canvas.height + (17 if canvas.wide else TEXT + 5)
    canvas.text(10 if canvas.wide else 2, base, label, hint=row.label if label != row.label else "")
    canvas.text(right, base, told, anchor="end")
    canvas.height += _ROW if canvas.wide else _STACKED_ROW
    y = base - 4.5 if canvas.wide else canvas.height - 11
    if not row.drawn:
        return
    if math.isfinite(row.low) and math.isfinite(row.high):
        low, high = scale.place(row.low), scale.place(row.high)
        ends = "".join(f"M{number(x)},{number(y - 5)}v10" for x in (low, high))
        canvas.add(
            "path",
            d=f"M{number(low)},{number(y)}H{number(high)}{ends}",
            fill="none",
            stroke=style.colour,
            stroke_width=2,
        )
    canvas.marker(scale.place(row.value), y, style.marker, style.colour, f"{row.label}: {told}")


def _paint_axis(canvas: Canvas, scale: Scale, top: float, place: int, label: str) -> None:
    """Ticks and label below the rows; grid lines behind them, at part `place` of the canvas."""
    canvas.height += 6
    ticks = scale.ticks(6 if canvas.wide else 4)
    bottom = canvas.height
    lines = "".join(
        f"M{number(scale.place(value))},{number(top)}V{number(bottom)}" for value, _ in ticks
    )
    if lines:
        grid = element("path", d=lines, fill="none", stroke=property_of("plot-grid"))
        canvas.parts.insert(place, grid)
    line = f"M{number(scale.start)},{number(bottom)}H{number(scale.end)}"
    if scale.low < 0 < scale.high:
        line += f"M{number(scale.place(0.0))},{number(top)}V{number(bottom)}"
    canvas.add("path", d=line, fill="none", stroke="currentColor")
    x_labels(canvas, scale, ticks, bottom + TEXT + 4)
    canvas.height += 2 * TEXT + 9
    text = shortened(label, canvas.width - 8)
    half = text_width(text) / 2
    middle = max(half + 2, min((scale.start + scale.end) / 2, canvas.width - 4 - half))
    canvas.text(middle, canvas.height, text, anchor="middle")
    canvas.height += 8


def funnel(rows: Sequence[tuple[str, float]], title: str, unit: str) -> str:
    """What is left after each step, as (step, count), and the share that the step took.

    The first row is what came in. ValueError without rows, for a negative count, or where no count
    is finite and above 0.
    """
    counts = [value for _, value in rows if math.isfinite(value)]
    if not any(value > 0 for value in counts) or min(counts) < 0:
        raise ValueError(f"{title}: no counts to draw, or one below 0")
    losses = [""] + [_change(before, after) for (_, before), (_, after) in pairwise(rows)]
    largest = max(counts)

    def paint(canvas: Canvas) -> None:
        canvas.heading(title, f"{unit} left after each step, and the change by it")
        numbers = room_for(count(value) for _, value in rows)
        changes = room_for(losses) + 12
        left, right = 2.0, canvas.width - 6.0
        if canvas.wide:
            left += min(room_for(name for name, _ in rows) + 12, canvas.width * 0.36)
            right -= numbers + changes + 12
        scale, before = Scale(0.0, largest, start=left, end=right), math.nan
        for (name, value), loss in zip(rows, losses, strict=True):
            room = left - 10 if canvas.wide else canvas.width - numbers - changes - 20
            label = shortened(name, room)
            base = canvas.height + TEXT + 4
            canvas.text(2, base, label, hint=name if label != name else "")
            canvas.text(canvas.width - 4 - changes, base, count(value), anchor="end")
            if loss:
                canvas.text(canvas.width - 4, base, loss, anchor="end")
            canvas.height += _ROW if canvas.wide else _STACKED_ROW
            y = base - 4.5 - _BAR / 2 if canvas.wide else base + 6
            hint = f"{name}: {count(value)} {unit}{loss and f' ({loss})'}"
            _paint_bar(canvas, scale, y, value, before, hint)
            before = value
        canvas.height += 8

    told = [
        f"{name}: {count(value)}{loss and f' ({loss})'}."
        for (name, value), loss in zip(rows, losses, strict=True)
    ]
    return drawing(title, (f"{unit} left after each step.", *told), paint)


def _paint_bar(
    canvas: Canvas, scale: Scale, y: float, value: float, before: float, hint: str
) -> None:
    """The bar, and behind it in outline what was there before."""
    colour = property_of("series-1")
    if math.isfinite(before) and before > 0:
        outline = _bar(scale.start, y + 0.5, scale.place(before) - scale.start, _BAR - 1)
        canvas.add("path", d=outline, fill="none", stroke=colour, stroke_dasharray="2 2")
    if math.isfinite(value) and value > 0:
        # A count above 0 is never invisible.
        width = max(1.5, scale.place(value) - scale.start)
        canvas.add("path", hint_of(hint), d=_bar(scale.start, y, width, _BAR), fill=colour)


def _bar(x: float, y: float, width: float, height: float) -> str:
    return f"M{number(x)},{number(y)}h{number(width)}v{number(height)}h{number(-width)}z"


def _change(before: float, after: float) -> str:
    """What a step took, in percent of what it was given; empty where that is not known."""
    if not (math.isfinite(before) and math.isfinite(after)) or before <= 0:
        return ""
    change = after / before - 1
    if not math.isfinite(100 * change):
        return ""
    return f"+{share(change)}" if change > 0 else share(change)
