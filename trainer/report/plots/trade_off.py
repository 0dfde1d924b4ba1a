"""What a cure costs: hallucination against accuracy, a point a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainer.report.plots.amounts import amount
from trainer.report.plots.axes import Frame, axes, legend, stroke_line
from trainer.report.plots.canvas import Canvas, drawing, hint_of, number
from trainer.report.plots.lettering import TEXT, shortened, text_width
from trainer.report.plots.scale import extent
from trainer.report.plots.style import line_style, property_of
from trainer.report.plots.whiskers import Interval, interval_ends, interval_text, whiskers

Area = tuple[float, float, float, float]
"""Left, top, right, bottom, in units of a drawing."""


@dataclass(frozen=True)
class TradeOffPoint:
    """A model's figures; points of one `line` are joined in their order (an interpolation).

    A model on several lines is given once for each of them, and drawn once.
    """

    label: str
    hallucination: Interval
    accuracy: Interval
    line: str = ""

    @property
    def drawn(self) -> bool:
        """Whether both figures are there."""
        return math.isfinite(self.hallucination[0]) and math.isfinite(self.accuracy[0])


def trade_off(
    points: Sequence[TradeOffPoint],
    title: str = "Truth and utility",
    x_label: str = "hallucination on what nobody can know (less is better)",
    y_label: str = "accuracy on what is known (more is better), with 95% intervals",
    goal: tuple[float, float] | None = None,
) -> str:
    """Each model at its hallucination and accuracy, with intervals and its name.

    `goal`: (hallucination at most, accuracy at least), drawn as the area that fulfils both. A point
    without a figure is left out and said in the description. ValueError where none has both.
    """
    shown = [point for point in points if point.drawn]
    if not shown:
        raise ValueError(f"{title}: no figure to draw")
    aims = [[aim] if math.isfinite(aim) else [] for aim in goal or (math.nan, math.nan)]
    horizontal = extent([e for p in shown for e in interval_ends(p.hallucination)] + aims[0])
    vertical = extent([e for p in shown for e in interval_ends(p.accuracy)] + aims[1])

    models = _without_lines(shown)

    def paint(canvas: Canvas) -> None:
        canvas.heading(title, y_label)
        frame = axes(canvas, horizontal, vertical, x_label, height=340 if canvas.wide else 280)
        taken: list[Area] = []
        if aims[0] and aims[1]:
            taken.append(_paint_goal(canvas, frame, aims[0][0], aims[1][0]))
        for number_, line in enumerate(dict.fromkeys(one.line for one in shown if one.line)):
            joined = [one for one in shown if one.line == line]
            places = [f"{number(x)},{number(y)}" for x, y in (_place(frame, p) for p in joined)]
            style = line_style(len(models) + number_)
            stroke_line(canvas, "M" + "L".join(places), style, 1.4, hint=line)
        taken += [_around(frame, point) for point in models]
        for turn, point in enumerate(models):
            hint = f"{point.label}: {_told(point)}"
            look = line_style(turn)
            whiskers(canvas, frame, point.hallucination, point.accuracy, look, hint)
        unnamed = [
            (point.label, line_style(turn))
            for turn, point in enumerate(models)
            if not _paint_label(canvas, frame, point, taken)
        ]
        if unnamed:
            legend(canvas, unnamed)

    told = [
        f"{point.label}: {_told(point) if point.drawn else 'no figure'}."
        for point in _without_lines(points)
    ]
    if goal is not None:
        told.append(f"Goal: at most {amount(goal[0])}, at least {amount(goal[1])}.")
    return drawing(title, (f"{y_label}, by {x_label}.", *told), paint)


def _without_lines(points: Sequence[TradeOffPoint]) -> list[TradeOffPoint]:
    """Each model once, in order."""
    return list(dict.fromkeys(replace(point, line="") for point in points))


def _place(frame: Frame, point: TradeOffPoint) -> tuple[float, float]:
    return frame.x.place(point.hallucination[0]), frame.y.place(point.accuracy[0])


def _around(frame: Frame, point: TradeOffPoint) -> Area:
    x, y = _place(frame, point)
    return x - 6, y - 6, x + 6, y + 6


def _told(point: TradeOffPoint) -> str:
    return (
        f"hallucination {interval_text(point.hallucination)}, "
        f"accuracy {interval_text(point.accuracy)}"
    )


def _paint_goal(canvas: Canvas, frame: Frame, most: float, least: float) -> Area:
    """The area of the goal, and where its name stands."""
    right, bottom = frame.x.place(most), frame.y.place(least)
    left = number(frame.left)
    data = f"M{left},{number(frame.top)}H{number(right)}V{number(bottom)}H{left}z"
    colour = property_of("series-3")
    canvas.add(
        "path",
        hint_of(f"goal: at most {amount(most)}, at least {amount(least)}"),
        d=data,
        fill=colour,
        fill_opacity="0.12",
        stroke=colour,
        stroke_dasharray="4 3",
    )
    canvas.text(frame.left + 4, frame.top + TEXT, "goal")
    return frame.left + 4, frame.top, frame.left + 4 + text_width("goal"), frame.top + TEXT + 3


def _paint_label(canvas: Canvas, frame: Frame, point: TradeOffPoint, taken: list[Area]) -> bool:
    """Write the name beside its point where nothing else is; whether there was room."""
    x, y = _place(frame, point)
    text = shortened(point.label, 0.5 * (frame.right - frame.left))
    width = text_width(text)
    spots = [
        (x + side, y + drop)
        for drop in (-5, 15, -21, 31, -37, 47, -53, 63)
        for side in (8.0, -width - 8, -width / 2)
    ]
    for left, base in spots:
        area = (left, base - TEXT, left + width, base + 4)
        inside = area[0] >= frame.left + 2 and area[2] <= canvas.width - 2
        inside = inside and area[1] >= frame.top and area[3] <= frame.bottom - 2
        if inside and not any(_meet(area, other) for other in taken):
            canvas.text(
                left, base, text, hint=point.label if text != point.label else "", halo=True
            )
            taken.append(area)
            return True
    return False


def _meet(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
