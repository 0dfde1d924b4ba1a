"""The pipeline's schedule drawn: a bar of passes for each stage, over time."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.report.plots.amounts import share
from trainer.report.plots.canvas import Canvas, drawing, element, number
from trainer.report.plots.lettering import TEXT, text_width
from trainer.report.plots.pipeline_order import (
    StagePass,
    TimedPass,
    bubble_share,
    duration,
    shorter,
    timetable,
)
from trainer.report.plots.style import property_of

_ROW = 22
_GAP = 24
"""Room of what is left out, between the beginning and the end."""
_MOST_UNIT, _UNITS_DOWN = 22.0, 48


def schedule_drawing(pipeline: int, virtual: int, micro_batches: int) -> str:
    """The schedule that megatron-core runs at this pipeline, `virtual` stretches a stage.

    Blocks bear the number of their micro-batch, from 0. Of a long schedule the beginning and the
    end are shown, of many stages the first and last ones; a sentence says what is left out. Times
    are of the work alone, a backward as two forwards. ValueError as `stage_order`.
    """
    simulated = shorter(pipeline, micro_batches)
    table = timetable(pipeline, virtual, simulated)
    share_text = share(bubble_share(pipeline, virtual, micro_batches))
    name = "interleaved 1F1B" if virtual > 1 else "1F1B" if pipeline > 1 else "one stage"
    title = f"Pipeline schedule: {name}, {micro_batches:,} micro-batches"
    sentences = [
        f"Stages wait {share_text} of the time (the bubble), "
        "if a backward takes as long as two forwards and exchanges cost nothing."
    ]
    if virtual > 1:
        sentences.append(
            f"Each stage holds {virtual} stretches of layers: the later, the darker the block."
        )

    def paint(canvas: Canvas) -> None:
        canvas.heading(title)
        _paint_key(canvas)
        view = _View.of(canvas, table, micro_batches - simulated)
        stages = first_and_last(pipeline, 12 if canvas.wide else 8)
        _paint_stages(canvas, view, table, stages, virtual)
        missing = micro_batches - len(view.micro_batches(table))
        left_out = " The time in between is left out." if view.head < view.tail else ""
        if missing:
            left_out = f" {missing:,} micro-batches in between are left out."
        canvas.note(" ".join(sentences) + left_out, lines=8)

    described = [f"Pipeline of {pipeline} stages, {micro_batches:,} micro-batches.", *sentences]
    return drawing(title, described, paint)


def first_and_last(size: int, most: int) -> list[int | None]:
    """The numbers from 0 to `size`, or their first and last ones around a None, `most` in all."""
    if size <= most:
        return list(range(size))
    tail = (most - 1) // 2
    return [*range(most - 1 - tail), None, *range(size - tail, size)]


@dataclass(frozen=True)
class _View:
    """Which units of time are shown, and where: from 0 to `head`, and the last from `tail` on.

    Time runs to the right in a wide drawing, downward in a narrow one. `later`: micro-batches
    between the beginning and the end that were not simulated.
    """

    origin: float
    unit: float
    head: int
    tail: int
    end: int
    later: int

    @classmethod
    def of(cls, canvas: Canvas, table: list[list[TimedPass]], later: int) -> "_View":
        end = duration(table)
        last = max(one.micro_batch for _, one in table[0]) + later
        least = (text_width(str(last), bold=True) + 3) / 2
        if canvas.wide:
            origin, room = text_width("stage 000") + 8, canvas.width - 6.0
            least = max(least, text_width("0") + 3)
            units = int((room - origin - _GAP) / least)
        else:
            origin, room, least = canvas.height + TEXT + 12, 0.0, 15.0
            units = _UNITS_DOWN
        if end <= units and not later:
            unit = min(_MOST_UNIT, (room - origin) / end) if canvas.wide else least
            return cls(origin, unit, end, end, end, 0)
        head = units * 3 // 5
        return cls(origin, least, head, end - (units - head), end, later)

    @property
    def far(self) -> float:
        """Where the drawing of time ends."""
        return self.place(self.end)

    def place(self, time: int) -> float:
        """Where a time is drawn."""
        if time <= self.head:
            return self.origin + time * self.unit
        return self.origin + (self.head + time - self.tail) * self.unit + _GAP

    def shown(self, start: int, one: StagePass) -> bool:
        """Whether a pass is seen whole."""
        return start + one.units <= self.head or start >= self.tail

    def number(self, start: int, one: StagePass) -> int:
        """Its micro-batch in the whole schedule."""
        return one.micro_batch + (self.later if start >= self.tail > self.head else 0)

    def micro_batches(self, table: list[list[TimedPass]]) -> set[int]:
        """Those of which something is shown."""
        return {
            self.number(start, one)
            for passes in table
            for start, one in passes
            if self.shown(start, one)
        }


def _paint_key(canvas: Canvas) -> None:
    """What the two kinds of blocks are."""
    x, y = 2.0, canvas.height
    for backward, text in ((False, "forward"), (True, "backward (bold)")):
        width = 28 if backward else 14
        canvas.parts.append(_blocks([(x, y, width, 14)], backward, 0.3))
        canvas.text(x + width + 6, y + 11.5, text)
        x += width + 30 + text_width(text)
    canvas.height += 24


def _paint_stages(
    canvas: Canvas,
    view: _View,
    table: list[list[TimedPass]],
    stages: Sequence[int | None],
    virtual: int,
) -> None:
    """A row for each stage in a wide drawing, a column in a narrow one."""
    wide, top = canvas.wide, canvas.height
    behind = len(canvas.parts)
    breadth = _ROW if wide else min(60.0, (canvas.width - 6) / len(stages))
    blocks: dict[tuple[bool, int], list[tuple[float, float, float, float]]] = {}
    if not wide:
        canvas.text(2, top + TEXT - 2, "stage, and time downward")
        top += TEXT + 4
    for place, stage in enumerate(stages):
        side = top + place * breadth if wide else 2 + place * breadth
        label = "…" if stage is None else f"stage {stage}" if wide else str(stage)
        if wide:
            canvas.text(2, side + 15, label)
        else:
            canvas.text(side + breadth / 2, top + TEXT, label, anchor="middle")
        for start, one in table[stage] if stage is not None else ():
            if not view.shown(start, one):
                continue
            # The narrow drawing's time begins below the stages' numbers.
            at, long = view.place(start) + (0 if wide else TEXT - 2), one.units * view.unit
            box = (at, side + 1, long, breadth - 2) if wide else (side + 1, at, breadth - 2, long)
            blocks.setdefault((one.backward, one.stretch), []).append(box)
            text = str(view.number(start, one))
            if text_width(text, bold=one.backward) + 1 <= box[2]:
                middle = box[0] + box[2] / 2
                below = box[1] + box[3] / 2 + 4.7
                canvas.text(middle, below, text, anchor="middle", bold=one.backward)
    for (backward, stretch), boxes in sorted(blocks.items()):
        opacity = 0.16 + 0.34 * stretch / max(1, virtual - 1)
        canvas.parts.insert(behind, _blocks(boxes, backward, opacity))
    if view.head < view.tail:
        at = view.place(view.head) + _GAP / 2 + (0 if wide else TEXT - 2)
        x, y = (at, top + breadth * len(stages) / 2) if wide else (canvas.width / 2, at)
        canvas.text(x, y + 4, "…", anchor="middle", bold=True)
    canvas.height = top + breadth * len(stages) if wide else view.far + TEXT
    canvas.height += 4


def _blocks(
    boxes: Sequence[tuple[float, float, float, float]], backward: bool, opacity: float
) -> str:
    """Boxes (x, y, width, height) of one kind, tinted so that text on them stays legible."""
    colour = property_of("series-2" if backward else "series-1")
    data = "".join(
        f"M{number(x + 0.5)},{number(y)}h{number(width - 1)}v{number(height)}h{number(1 - width)}z"
        for x, y, width, height in boxes
    )
    return element("path", d=data, fill=colour, fill_opacity=f"{opacity:.2f}", stroke=colour)
