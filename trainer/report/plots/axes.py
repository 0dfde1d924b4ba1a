"""What surrounds the data of a plot: title, legend, grid, ticks and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.report.plots.canvas import Canvas, hint_of, number, room_for
from trainer.report.plots.lettering import TEXT, shortened, text_width, wrapped
from trainer.report.plots.scale import Scale
from trainer.report.plots.style import LineStyle, property_of

Ticks = Sequence[tuple[float, str]]
"""Values on an axis, with their labels."""

_SAMPLE = 34
"""Width of a legend's piece of line, and of the space after it."""


@dataclass(frozen=True)
class Frame:
    """The area of a plot that holds data, in units of the drawing, and its scales."""

    x: Scale
    y: Scale

    @property
    def left(self) -> float:
        """Its left edge."""
        return self.x.start

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x.end

    @property
    def top(self) -> float:
        """Its upper edge."""
        return self.y.end

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y.start


def legend(canvas: Canvas, entries: Sequence[tuple[str, LineStyle]]) -> None:
    """A piece of line with its marker and name for each series, in as many rows as they need."""
    x, room = 2.0, canvas.width - 8
    for name, style in entries:
        text = shortened(name or "unnamed", min(room - _SAMPLE, 300))
        width = _SAMPLE + text_width(text)
        if x > 2 and x + width > room:
            x, canvas.height = 2.0, canvas.height + TEXT + 6
        y = canvas.height + TEXT / 2
        stroke_line(canvas, f"M{number(x)},{number(y)}h26", style)
        canvas.marker(x + 13, y, style.marker, style.colour)
        canvas.text(x + _SAMPLE, y + 4.5, text, hint=name if text != name else "")
        x += width + 16
    canvas.height += TEXT + 10


def stroke_line(
    canvas: Canvas, data: str, style: LineStyle, width: float = 1.8, hint: str = ""
) -> None:
    """A line of a series along the path `data`."""
    dash: dict[str, str | float] = {"stroke_dasharray": style.dash} if style.dash else {}
    canvas.add(
        "path",
        hint_of(hint),
        d=data,
        fill="none",
        stroke=style.colour,
        stroke_width=width,
        stroke_linejoin="round",
        stroke_linecap="round",
        **dash,
    )


def axes(
    canvas: Canvas,
    horizontal: tuple[float, float],
    vertical: tuple[float, float],
    x_label: str,
    *,
    height: float,
    x_ticks: Ticks | None = None,
    whole_x: bool = False,
    log_y: bool = False,
    head_room: float = 0.0,
) -> Frame:
    """Grid, ticks and labels below what is painted, `height` units of data high.

    `horizontal`, `vertical`: the ends of the scales; `x_ticks`: None for round numbers;
    `head_room`: kept free above the data. Leaves the canvas's height below the labels.
    """
    top = canvas.height + 6 + head_room
    y = Scale(*vertical, start=top + height, end=top, log=log_y)
    y_ticks = y.ticks(6)
    left = max(24.0, room_for(label for _, label in y_ticks) + 10)
    x = Scale(*horizontal, start=left, end=canvas.width - 14)
    if x_ticks is None:
        x_ticks = x.ticks(8 if canvas.wide else 4, whole=whole_x)
    lines = "".join(
        f"M{number(left)},{number(y.place(value))}H{number(x.end)}" for value, _ in y_ticks
    )
    if lines:
        canvas.add("path", d=lines, fill="none", stroke=property_of("plot-grid"))
    for value, label in y_ticks:
        canvas.text(left - 7, y.place(value) + 4.5, label, anchor="end")
    feet = "".join(f"M{number(x.place(value))},{number(y.start)}v5" for value, _ in x_ticks)
    canvas.add(
        "path", d=f"M{number(left)},{number(y.start)}H{number(x.end)}{feet}", stroke="currentColor"
    )
    canvas.height = x_labels(canvas, x, x_ticks, y.start + 5 + TEXT + 2)
    for text in wrapped(x_label, canvas.width - 8, 2):
        canvas.height += TEXT + 5
        # Under the middle of the data, or as near to it as it fits.
        half = text_width(text) / 2
        middle = max(half + 2, min((x.start + x.end) / 2, canvas.width - 4 - half))
        canvas.text(middle, canvas.height, text, anchor="middle")
    canvas.height += 8
    return Frame(x, y)


def x_labels(canvas: Canvas, x: Scale, ticks: Ticks, y: float) -> float:
    """The labels below the axis, those left out that would touch the one before; the base line."""
    end = -1e9
    for value, label in ticks:
        half = text_width(label) / 2
        middle = max(half + 1, min(x.place(value), canvas.width - half - 1))
        if middle - half >= end + 8:
            canvas.text(middle, y, label, anchor="middle")
            end = middle + half
    return y
