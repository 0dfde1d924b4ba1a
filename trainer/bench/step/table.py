"""The predicted floor of each part beside the measured time, and where the largest gaps are."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kernels.bench.run import BenchRun
from kernels.bench.table import layout, time_text
from trainer.bench.display import can_draw, figure_of, save
from trainer.bench.step.attribute import REST
from trainer.bench.step.measured import Measured
from trainer.plan.part import Prediction, StepPart

HEADER = ("part", "phase", "shape", "calls", "floor", "alone", "measured", "gap", "reached")
IDLE_GOAL = 0.02
LARGEST = 5
_GAPS = "launch gaps"


@dataclass(frozen=True)
class TableRow:
    """A part of a step; what was measured but not predicted has no part, and a floor of 0."""

    name: str
    part: StepPart | None
    floor_seconds: float
    alone_seconds: float | None = None
    """Of a matrix product, all its calls by themselves."""
    measured_seconds: float | None = None

    @property
    def gap_seconds(self) -> float | None:
        """By how much it misses its floor."""
        return None if self.measured_seconds is None else self.measured_seconds - self.floor_seconds

    @property
    def reached(self) -> float | None:
        """The floor as a share of the time that it took."""
        return self.floor_seconds / self.measured_seconds if self.measured_seconds else None

    def figures(self) -> dict[str, object]:
        """Everything, for JSON; null for what was not measured."""
        own = asdict(self)
        part = own.pop("part")
        return own | {"gap_seconds": self.gap_seconds, "reached": self.reached, "predicted": part}


def rows_of(
    prediction: Prediction, measured: Measured | None, alone: dict[str, float] | None = None
) -> list[TableRow]:
    """One a part, then what else was measured; the largest gap first, or the largest floor."""
    alone = alone or {}
    seconds: dict[str, float] = {}
    if measured is not None:
        spent = measured.attribution
        seconds = {name: total / measured.steps for name, total in spent.rows.items()}
        seconds[_GAPS] = (spent.window_seconds - spent.union_seconds) / measured.steps
    parts = list(prediction.parts)
    grouped = []
    if REST in seconds:  # of what a compiler fused, the parts have one time together
        grouped = [part for part in parts if _in_layer(part) and part.name not in seconds]
        parts = [part for part in parts if part not in grouped]
    floor = sum(part.floor_seconds(prediction.ceilings) for part in grouped)
    rows = [
        TableRow(
            *(part.name, part, part.floor_seconds(prediction.ceilings)),
            alone.get(part.name),
            None if measured is None else seconds.pop(part.name, 0.0),
        )
        for part in parts
    ]
    if grouped:
        names = f"{REST} ({', '.join(part.name for part in grouped)})"
        rows.append(TableRow(names, None, floor, None, seconds.pop(REST)))
    rows += [TableRow(name, None, 0.0, None, total) for name, total in seconds.items()]
    return sorted(rows, key=_importance, reverse=True)


def _in_layer(part: StepPart) -> bool:
    outside = part.name.startswith(("embedding", "final norm"))
    return part.phase in ("forward", "backward") and not outside


def _importance(row: TableRow) -> float:
    return row.floor_seconds if row.gap_seconds is None else row.gap_seconds


def markdown(rows: Sequence[TableRow]) -> str:
    """The table, and the sum of its columns in the last line."""
    measured = [row.measured_seconds for row in rows if row.measured_seconds is not None]
    floor = sum(row.floor_seconds for row in rows)
    total = TableRow("all", None, floor, None, sum(measured) if measured else None)
    return layout([HEADER, *(_cells(row) for row in [*rows, total])])


def _cells(row: TableRow) -> tuple[str, ...]:
    part = row.part
    about = ("-", "-", "-") if part is None else (part.phase, part.shape, str(part.times))
    times = (row.floor_seconds, row.alone_seconds, row.measured_seconds, row.gap_seconds)
    reached = "-" if row.reached is None else f"{row.reached:.0%}"
    return (row.name, *about, *map(_time, times), reached)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"-{time_text(-seconds)}" if seconds < 0 else time_text(seconds)


def summary(
    prediction: Prediction, measured: Measured | None, rows: Sequence[TableRow]
) -> list[str]:
    """What the table comes to, a line a sentence."""
    seconds = prediction.seconds
    lines = [
        f"Predicted: {time_text(seconds)} a step, if every part met its floor and none ran beside "
        f"another{_mfu(prediction, seconds)}."
    ]
    for part in prediction.candidates():
        saved = time_text(part.spare_seconds(prediction.ceilings))
        lines.append(f"  {saved} of it less, where {part.mend}: {part.name}")
    left = seconds - prediction.spare_seconds
    if left < seconds:
        lines.append(f"With all of that: {time_text(left)}{_mfu(prediction, left)}.")
    if measured is None:
        largest = ", ".join(
            f"{row.name} ({time_text(row.floor_seconds)})" for row in rows[:LARGEST]
        )
        return [*lines, f"Largest floors: {largest}."]
    taken, share = measured.step_seconds, measured.attribution.idle_share
    largest = ", ".join(f"{row.name} ({_time(row.gap_seconds)})" for row in rows[:LARGEST])
    return [
        *lines,
        f"Measured: {time_text(taken)} a step{_mfu(prediction, taken)}, the device idle "
        f"{measured.idle_share:.1%} of it (goal: under {IDLE_GOAL:.0%}); under the profiler "
        f"{time_text(measured.profiled_step_seconds)} and {share:.1%}, "
        f"in {measured.attribution.launches // measured.steps} launches.",
        f"Largest gaps: {largest}.",
    ]


def _mfu(prediction: Prediction, seconds: float) -> str:
    share = prediction.mfu(seconds)
    return "" if share is None else f", MFU {share:.1%}"


def document(
    run: BenchRun, prediction: Prediction, measured: Measured | None, rows: Sequence[TableRow]
) -> dict[str, object]:
    """What `--json` writes; null for what was not measured."""
    seconds, left = prediction.seconds, prediction.seconds - prediction.spare_seconds
    return {
        "run": asdict(run),
        "ceilings": asdict(prediction.ceilings),
        "peak_flops": prediction.peak,
        "tokens": prediction.tokens,
        "flops": prediction.flops,
        "repeated_flops": prediction.repeated,
        "predicted": {
            **{"step_seconds": seconds, "mfu": prediction.mfu(seconds)},
            **{"spared_step_seconds": left, "spared_mfu": prediction.mfu(left)},
        },
        "measured": None
        if measured is None
        else {**asdict(measured), "mfu": prediction.mfu(measured.step_seconds)},
        "idle_share": None if measured is None else measured.idle_share,
        "profiled_idle_share": None if measured is None else measured.attribution.idle_share,
        "rows": [row.figures() for row in rows],
    }


_SHOWN = 14


def plot(rows: Sequence[TableRow], path: Path, subtitle: str) -> bool:
    """Draw them into the file; False, and nothing drawn, where matplotlib is not installed.

    The parts that take longest have colours of their own, the others one together. Raises
    RecipeError where the file cannot be written.
    """
    if not can_draw():
        return False
    ordered = sorted(rows, key=_length, reverse=True)
    shown, others = ordered[:_SHOWN], ordered[_SHOWN:]
    bars = {"predicted": [row.floor_seconds for row in shown]}
    rest = {"predicted": sum(row.floor_seconds for row in others)}
    if any(row.measured_seconds is not None for row in rows):
        bars["measured"] = [row.measured_seconds or 0.0 for row in shown]
        rest["measured"] = sum(row.measured_seconds or 0.0 for row in others)
    figure = figure_of(9, 6)
    axes = figure.subplots()
    for place, (name, heights) in enumerate(bars.items()):
        bottom = 0.0
        for number, height in enumerate([*heights, rest[name]]):
            label = [*(row.name for row in shown), "other parts"][number] if place == 0 else None
            drawn = axes.bar(name, height * 1e3, bottom=bottom * 1e3, label=label)
            for box in drawn:
                box.set(facecolor=f"C{number % 10}", edgecolor="white")
                box.set_hatch("//" if number >= 10 else "")
            bottom += height
    axes.set_ylabel("milliseconds a step")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8)
    figure.supxlabel("\n".join(textwrap.wrap(subtitle, 130)), fontsize=7)
    save(figure, path)
    return True


def _length(row: TableRow) -> float:
    return max(row.floor_seconds, row.measured_seconds or 0.0)
