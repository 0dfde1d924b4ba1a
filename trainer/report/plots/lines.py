"""Lines over steps, tokens or seconds: as many as there are runs, of any length."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from trainer.report.plots.amounts import amount
from trainer.report.plots.axes import Frame, axes, legend
from trainer.report.plots.canvas import Canvas, drawing, number
from trainer.report.plots.lettering import text_width
from trainer.report.plots.plotted import PlottedLine, Series, paint_line, plotted
from trainer.report.plots.scale import extent
from trainer.report.plots.style import marker_path, property_of

_POINTS_WIDE, _POINTS_NARROW = 2400, 1200
"""Points of all lines together, so that a page of many plots stays small."""
_MARK_ROOM = 8
"""Units of a drawing: marks that are nearer are drawn as one."""


def line_plot(
    series: Sequence[Series], title: str, x_label: str, y_label: str, log_y: bool = False
) -> str:
    """One line a series. ValueError where no series has a value, or x and y differ in length.

    What is not finite is a gap, on a logarithmic axis also what is not above 0, which the
    description counts. Long lines are drawn by their extremes (`envelope`).
    """
    lines = [plotted(one, turn, log=log_y) for turn, one in enumerate(series)]
    if not any(len(line.drawn) for line in lines):
        raise ValueError(f"{title}: no value to draw")
    horizontal = _ends(value for line in lines for value in _shown_x(line))
    vertical = extent((float(value) for line in lines for value in _edges(line)), log=log_y)

    def paint(canvas: Canvas) -> None:
        canvas.heading(title, y_label)
        if len(lines) > 1:
            legend(canvas, [(line.named, line.style) for line in lines])
        marked = any(line.marks for line in lines)
        frame = axes(
            canvas,
            horizontal,
            vertical,
            x_label,
            height=230 if canvas.wide else 190,
            whole_x=all(_whole(line.x) for line in lines),
            log_y=log_y,
            head_room=22 if marked else 0,
        )
        points = _POINTS_WIDE if canvas.wide else _POINTS_NARROW
        columns = max(12, min(int(frame.right - frame.left), points // (4 * len(lines))))
        for line in lines:
            paint_line(canvas, frame, line, columns, markers=len(lines) > 1)
        if marked:
            _paint_marks(canvas, frame, lines)

    return drawing(title, _description(lines, series, x_label, y_label), paint)


def _shown_x(line: PlottedLine) -> Iterable[float]:
    """The ends of its x, gaps and marks included: a run that ended in skipped steps went so far."""
    ends = [] if not len(line.drawn) else [float(line.x[0]), float(line.x[-1])]
    return ends + [at for at, _ in line.marks]


def _edges(line: PlottedLine) -> Iterable[float]:
    return (line.drawn.min(), line.drawn.max()) if len(line.drawn) else ()


def _ends(values: Iterable[float]) -> tuple[float, float]:
    return extent(values, margin=0.01)


def _whole(x: np.ndarray) -> bool:
    return bool(np.all(x == np.round(x)))


def _paint_marks(canvas: Canvas, frame: Frame, lines: Sequence[PlottedLine]) -> None:
    """A flag at each mark, with its text where all texts fit; else how often each was said."""
    bins: dict[int, list[tuple[float, str]]] = {}
    for line in lines:
        for at, text in line.marks:
            x = frame.x.place(at)
            told = f"{line.name}: {text}" if len(lines) > 1 else text
            bins.setdefault(round(x / _MARK_ROOM), []).append((x, told))
    colour, labels = property_of("plot-flag"), []
    flags, stems = "", ""
    for key in sorted(bins):
        x, texts = bins[key][0][0], Counter(text for _, text in bins[key])
        labels.append((x, ", ".join(_times(text, times) for text, times in texts.items())))
        flags += marker_path(4, x, frame.top - 7)
        stems += f"M{number(x)},{number(frame.top - 2)}V{number(frame.bottom)}"
    canvas.add("path", d=stems, stroke=colour, stroke_dasharray="2 3", stroke_width=1)
    canvas.add("path", d=flags, fill=colour)
    if (middles := _side_by_side(labels, canvas.width)) is not None:
        for middle, (_, told) in zip(middles, labels, strict=True):
            canvas.text(middle, frame.top - 14, told, anchor="middle")
        return
    said = Counter(text for line in lines for _, text in line.marks).most_common()
    shown = ", ".join(_times(text, times) for text, times in said[:6])
    others = f", and {len(said) - 6} more kinds" if len(said) > 6 else ""
    canvas.note(f"Flags: {shown}{others}.")


def _side_by_side(labels: Sequence[tuple[float, str]], width: float) -> list[float] | None:
    """The middles of the labels in one row, each over its x; None where they do not fit."""
    middles: list[float] = []
    end = 0.0
    for x, text in labels:
        half = text_width(text) / 2
        middle = max(half + 2, min(x, width - 4 - half))
        if middle - half < end + 6 - 6 * (not middles) or half * 2 > width * 0.6:
            return None
        middles.append(middle)
        end = middle + half
    return middles


def _times(text: str, times: int) -> str:
    return text if times == 1 else f"{text} (\u00d7{times:,})"


def _description(
    lines: Sequence[PlottedLine], series: Sequence[Series], x_label: str, y_label: str
) -> Iterable[str]:
    yield f"{y_label} over {x_label}."
    for line, given in list(zip(lines, series, strict=True))[:12]:
        name, values = line.name or "the line", line.drawn
        if not len(values):
            yield f"{name}: no values."
            continue
        gaps = len(given.y) - len(values)
        yield (
            f"{name}: {len(values):,} values from {amount(values[0])} to {amount(values[-1])}, "
            f"lowest {amount(values.min())}, highest {amount(values.max())}"
            + (f", {gaps:,} not drawn" if gaps else "")
            + (f", {len(line.marks):,} flagged" if line.marks else "")
            + "."
        )
    if len(lines) > 12:
        yield f"And {len(lines) - 12} more."
