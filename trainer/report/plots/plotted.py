"""A series of a plot: its points in order, with its gaps, and the path that they make."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.report.plots.axes import Frame, stroke_line
from trainer.report.plots.canvas import Canvas, number
from trainer.report.plots.envelope import envelope
from trainer.report.plots.scale import is_drawn
from trainer.report.plots.style import LineStyle, line_style, marker_path

_FEW = 24
"""Points up to which each has its marker."""
_MARKERS_A_LINE = 5


@dataclass(frozen=True)
class Series:
    """One line: `y` over `x`, where None is a gap (a skipped step).

    `marks`: values of x that deserve a look, each with what happened there.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    marks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class PlottedLine:
    """A series ready to be drawn: `x` ascending and finite, `y` NaN where there is a gap."""

    name: str
    x: np.ndarray
    y: np.ndarray
    marks: Sequence[tuple[float, str]]
    style: LineStyle

    @property
    def drawn(self) -> np.ndarray:
        """Its values without the gaps."""
        return np.asarray(self.y[np.isfinite(self.y)])

    @property
    def named(self) -> str:
        """Its name, with a word where it has no values."""
        return self.name if len(self.drawn) else f"{self.name} (no values)"


def plotted(series: Series, turn: int, *, log: bool = False) -> PlottedLine:
    """The series as the plot's number `turn`, from 0; ValueError where x and y differ in length."""
    if len(series.x) != len(series.y):
        raise ValueError(f"{series.name}: {len(series.x)} values of x, {len(series.y)} of y")
    x = np.array([math.nan if value is None else float(value) for value in series.x])
    y = np.array([float(v) if is_drawn(v, log=log) else math.nan for v in series.y])  # type: ignore[arg-type]
    kept = np.isfinite(x)
    x, y = x[kept], y[kept]
    order = np.argsort(x, kind="stable")
    marks = sorted((float(at), text) for at, text in series.marks if math.isfinite(at))
    return PlottedLine(series.name, x[order], y[order], marks, line_style(turn))


def paint_line(
    canvas: Canvas, frame: Frame, line: PlottedLine, columns: int, *, markers: bool
) -> None:
    """The line, at most 4 points a column; `markers`: along it, where not each point has one."""
    pieces = envelope(line.x, line.y, columns)
    if not pieces:
        return
    stroke_line(canvas, "".join(_path(frame, piece) for piece in pieces), line.style)
    whole = np.concatenate(pieces)
    if len(whole) > _FEW and not markers:
        return
    if len(whole) > _FEW:
        # Evenly along x, a little later for each line, so that lines which overlap both show.
        turn = line.style.marker / 6 / _MARKERS_A_LINE
        at = np.linspace(whole[0, 0], whole[-1, 0], _MARKERS_A_LINE, endpoint=False)
        at = at + turn * (whole[-1, 0] - whole[0, 0])
        whole = whole[np.unique(np.searchsorted(whole[:, 0], at).clip(0, len(whole) - 1))]
    outlines = "".join(
        marker_path(line.style.marker, frame.x.place(x), frame.y.place(y)) for x, y in whole
    )
    canvas.add("path", d=outlines, fill=line.style.colour)


def _path(frame: Frame, piece: np.ndarray) -> str:
    """A piece as relative moves in tenths of a unit, of which rounding does not add up."""
    places = [(round(10 * frame.x.place(x)), round(10 * frame.y.place(y))) for x, y in piece]
    (x, y), *others = places
    moves = [f"M{number(x / 10)},{number(y / 10)}"]
    if not others:
        return moves[0] + "h0"
    moves.append("l")
    for then_x, then_y in others:
        moves.append(f"{_tenths(then_x - x)},{_tenths(then_y - y)} ")
        x, y = then_x, then_y
    return "".join(moves).rstrip()


def _tenths(value: int) -> str:
    sign, whole, part = "-" if value < 0 else "", abs(value) // 10, abs(value) % 10
    return f"{sign}{whole}" if not part else f"{sign}{whole or ''}.{part}"
