"""How a run learned: its loss, what its stage reports beside, its speed and its memory."""

import math
from collections.abc import Sequence

from trainer.recovery.goodput import Ledger
from trainer.report.page.blocks import Drawing, Folded, PageBlock, PageSection, Prose
from trainer.report.page.table import Cell, DataTable
from trainer.report.plots.lines import line_plot
from trainer.report.reading.run_record import RunRecord
from trainer.report.reading.steps import MOST_SKIPPED, RunSteps
from trainer.report.telling.curves import (
    CurvePlot,
    curve_drawings,
    is_noisy,
    marks_of,
    means_of,
    series_of,
    side_by_side,
)
from trainer.report.telling.stages import STAGE_CURVES, loss_unit
from trainer.report.telling.wording import count_of, duration, value_text

VALIDATION = "eval/loss"
_COURSE = (
    CurvePlot("Learning rate", "learning rate", (("lr", "learning rate"),), smooth=False),
    CurvePlot("Gradient norm", "before clipping", (("grad_norm", "norm"),), smooth=False),
    CurvePlot("Throughput", "tokens a second, all ranks", (("tokens_per_second", "tokens"),)),
    CurvePlot("Model FLOPs utilisation", "share of the peak", (("mfu", "MFU"),)),
    CurvePlot("Memory", "GiB, the fullest rank", (("memory_gib", "GiB"),), smooth=False),
)
_SPEED = (
    ("tokens_per_second", "tokens a second"),
    ("step_seconds", "seconds a step"),
    ("tflops_per_device", "TFLOP/s a device"),
    ("mfu", "MFU"),
    ("memory_gib", "GiB, the fullest rank"),
)
_SPENT = {
    "useful": "useful steps",
    "down": "down, between two starts",
    "imports": "imports",
    "start": "start, without the weights",
    "load": "reading the weights",
    "compile": "compiling",
    "data_wait": "waiting for data",
    "replay": "steps made again",
    "skipped": "skipped steps",
    "evaluation": "evaluation and samples",
    "save_stall": "saving",
}


def training_section(record: RunRecord) -> PageSection | None:
    """The curves of a run; None where it has made no step."""
    steps = record.steps
    if steps is None:
        return None
    blocks: list[PageBlock] = [Prose(course_sentence(record, steps)), loss_drawing(record)]
    blocks += side_by_side(curve_drawings(record, STAGE_CURVES))
    blocks += side_by_side(curve_drawings(record, _COURSE))
    blocks.append(_speed(steps))
    if spent := _spent(record):
        blocks.append(spent)
    if events := _events(record):
        blocks.append(events)
    return PageSection(f"Training of {record.label}", blocks, note_of(record))


def earlier_section(records: Sequence[RunRecord]) -> PageSection | None:
    """The losses of the stages before, with what their stage reports; None without any."""
    shown = [record for record in records if record.steps is not None]
    if not shown:
        return None
    blocks: list[PageBlock] = []
    for record in shown:
        assert record.steps is not None, "those without were left out"
        blocks.append(Prose(f"{record.label}: {course_sentence(record, record.steps)}"))
        curves = [loss_drawing(record), *curve_drawings(record, STAGE_CURVES)]
        blocks += [curves[0], *side_by_side(curves[1:])]
    return PageSection("The stages before it", blocks)


def loss_drawing(record: RunRecord) -> Drawing | Prose:
    """The loss of each step, its mean where there are many, and that of held-out text."""
    steps, lines = record.steps, []
    assert steps is not None, "the caller has looked"
    loss = steps.series.get("loss")
    if loss is not None and loss.count:
        lines.append(series_of("training, each step", loss, marks_of(record)))
        if is_noisy(loss):
            lines.append(means_of("training", loss))
    validation = steps.series.get(VALIDATION)
    if validation is not None and validation.count:
        lines.append(series_of("validation", validation))
    if not lines:
        lines = [series_of("loss", loss)] if loss else []
    title = f"Loss of {record.label} ({record.called})"
    try:
        return Drawing(line_plot(lines, title, "step", loss_unit(record)), _loss_caption(record))
    except ValueError:
        return Prose(f"{title}: no step has a finite loss.")


def _loss_caption(record: RunRecord) -> str:
    steps = record.steps
    assert steps is not None, "the caller has looked"
    loss = steps.series.get("loss")
    if loss is None or loss.first is None or loss.last is None:
        return ""
    held_out = steps.series.get(VALIDATION)
    ends = f"From {value_text(loss.first[1])} to {value_text(loss.last[1])}"
    words = f"{ends} over {count_of(steps.count, 'step')}"
    if held_out is not None and held_out.last is not None:
        step, value = held_out.last
        words += f"; on held-out data {value_text(value)} after step {step:,}"
    return words + "."


def course_sentence(record: RunRecord, steps: RunSteps) -> str:
    """Steps, tokens, time and what did not go as planned, in a sentence or two."""
    planned = record.key("steps")
    of = f" of {planned:,}" if type(planned) is int and planned != steps.last else ""
    tokens = "" if steps.tokens is None else f", {count_of(steps.tokens, 'token')}"
    learned = steps.supervised_tokens
    if learned is not None and learned != steps.tokens:
        tokens += f" ({learned:,} of them learned from)"
    words = f"{steps.last:,}{of} steps{tokens}, in {duration(steps.seconds)} of steps."
    if steps.skipped_count:
        which = ", ".join(f"{step:,}" for step in steps.skipped[:8])
        more = ", …" if steps.skipped_count > 8 else ""
        words += (
            f" {count_of(steps.skipped_count, 'step')} skipped, as loss or gradient was not finite:"
            f" {which}{more}."
        )
        if steps.skipped_count > MOST_SKIPPED:
            words += f" The first {MOST_SKIPPED} are marked."
    if resumed := record.log.resumed_at:
        places = ", ".join(f"{step:,}" for step in resumed[:8])
        words += (
            f" Resumed {len(resumed)} times, at step {places}."
            if len(resumed) > 1
            else (f" Resumed at step {places}.")
        )
    return words


def note_of(record: RunRecord) -> str | None:
    """What a reader must know of the figures: a run that goes on, lines that cannot be read."""
    steps, words = record.steps, []
    if record.state == "running":
        words.append("The run goes on: this is what it had written by now.")
    if steps is not None and steps.damaged_count:
        words.append(damage(record, steps))
    if steps is not None and steps.torn and record.state != "running":
        words.append("The last line of metrics.jsonl was cut short, and is left out.")
    return " ".join(words) or None


def damage(record: RunRecord, steps: RunSteps) -> str:
    """Which lines of metrics.jsonl are no records."""
    which = ", ".join(map(str, steps.damaged))
    more = ", …" if steps.damaged_count > len(steps.damaged) else ""
    many = steps.damaged_count > 1
    return (
        f"{record.folder.name}/metrics.jsonl: line{'s' * many} {which}{more} of it"
        f" {'are' if many else 'is'} not the record of a step, and left out."
    )


def _speed(steps: RunSteps) -> DataTable:
    rows: list[tuple[Cell, ...]] = []
    for name, label in _SPEED:
        series = steps.series.get(name)
        if series is not None and series.count and math.isfinite(series.mean):
            rows.append((label, series.mean, series.low, series.high))
    return DataTable(("figure", "mean", "least", "most"), rows, "Speed and memory over all steps")


def _spent(record: RunRecord) -> DataTable | None:
    """Where the run's time went over all its starts, as status.json has it; None without."""
    ledger = Ledger.of_status({**record.status, "state": "done"}, now=0.0)
    if ledger.wall <= 0:
        return None
    seconds = {"useful": ledger.useful, **ledger.lost}
    rows: list[tuple[Cell, ...]] = [
        (_SPENT.get(name, name), value, value / ledger.wall)
        for name, value in sorted(seconds.items(), key=lambda one: -one[1])
        if value > 0
    ]
    caption = (
        f"Where the time went, over all starts: {ledger.fraction:.1%} of {duration(ledger.wall)} "
        "were useful: steps that were applied, and that no earlier start had made"
    )
    return DataTable(("time", "seconds", "share"), rows, caption)


def _events(record: RunRecord) -> Folded | None:
    log = record.log
    rows = [(event.time, "course", event.text) for event in log.course]
    rows += [(event.time, "warning", event.text) for event in log.warnings]
    if not rows:
        return None
    caption = "What the run's log says of its course"
    if log.warning_count > len(log.warnings):
        caption += f"; of {log.warning_count:,} warnings the last {len(log.warnings)}"
    table = DataTable(("time", "kind", "line"), sorted(rows), caption)
    return Folded("The run's log: starts, ends and warnings", [table])
