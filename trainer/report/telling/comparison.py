"""Several runs side by side: what differs in their recipes, their curves, and their figures."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.report.page.blocks import Drawing, PageBlock, PageSection, Prose
from trainer.report.page.table import Cell, DataTable
from trainer.report.plots.lines import line_plot
from trainer.report.plots.plotted import Series
from trainer.report.reading.run_record import RunRecord
from trainer.report.telling.curves import (
    CurvePlot,
    drawn_series,
    marks_of,
    means_of,
    series_of,
    side_by_side,
)
from trainer.report.telling.evaluation import evaluation_section
from trainer.report.telling.measured import MeasuredModel
from trainer.report.telling.stages import STAGE_CURVES, loss_unit
from trainer.report.telling.training import VALIDATION, note_of
from trainer.report.telling.wording import count_of, duration, state_of

_NOT_COMPARED = frozenset({"run"})
_LONGEST_VALUE = 200
_COMMON = (
    CurvePlot("Gradient norm", "before clipping", (("grad_norm", "norm"),)),
    CurvePlot("Learning rate", "learning rate", (("lr", "lr"),), smooth=False),
    CurvePlot("Throughput", "tokens a second, all ranks", (("tokens_per_second", "tokens"),)),
    CurvePlot("Memory", "GiB, the fullest rank", (("memory_gib", "GiB"),), smooth=False),
)


def overview_section(records: Sequence[RunRecord]) -> PageSection:
    """A row for each run."""
    columns = (
        *("run", "stage", "parameters", "steps", "tokens", "last loss", "validation loss"),
        *("time of steps", "skipped", "state"),
    )
    rows = [_overview(record) for record in records]
    notes = [note for record in records if (note := note_of(record))]
    blocks = [DataTable(columns, rows, "The runs, in the order given")]
    return PageSection("In short", blocks, " ".join(notes) or None)


def _overview(record: RunRecord) -> list[Cell]:
    head: list[Cell] = [record.label, record.called, record.parameters]
    steps = record.steps
    if steps is None:
        return [*head, None, None, None, None, None, None, state_of(record)]
    return [
        *head,
        steps.last,
        steps.tokens,
        steps.last_value("loss"),
        steps.last_value(VALIDATION),
        duration(steps.seconds),
        steps.skipped_count,
        record.state,
    ]


def keys_section(records: Sequence[RunRecord]) -> PageSection:
    """The recipe keys in which the runs differ."""
    # With every default: a key that an older version did not know is no difference.
    flat = [
        _flat(record.keys if record.recipe is None else record.recipe.model_dump(mode="json"))
        for record in records
    ]
    names = dict.fromkeys(name for one in flat for name in one if name not in _NOT_COMPARED)
    differing = [name for name in names if len({one.get(name, "") for one in flat}) > 1]
    if not differing:
        return PageSection("How their recipes differ", [Prose("In no key but the run's folder.")])
    rows = [(name, *(one.get(name) for one in flat)) for name in differing]
    columns = ("key", *(record.label for record in records))
    table = DataTable(columns, rows, f"{count_of(len(differing), 'key')} not the same in all")
    return PageSection("How their recipes differ", [table])


def _flat(keys: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in keys.items():
        if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            found[f"{prefix}{name}"] = text[:_LONGEST_VALUE]
    return found


def curves_section(records: Sequence[RunRecord]) -> list[PageSection]:
    """For each stage the curves of its runs, on the same axes."""
    found = []
    for called in dict.fromkeys(record.called for record in records):
        of = [one for one in records if one.called == called and one.steps is not None]
        if not of:
            continue
        blocks: list[PageBlock] = [_losses(of, called)]
        drawn = [_together(of, plot) for plot in (*STAGE_CURVES, *_COMMON)]
        blocks += side_by_side([one for one in drawn if one is not None])
        found.append(PageSection(f"How they learned: {called}", blocks))
    return found


def _losses(records: Sequence[RunRecord], called: str) -> Drawing | Prose:
    lines: list[Series] = []
    for record in records:
        assert record.steps is not None, "those without were left out"
        for name, label in (("loss", ""), (VALIDATION, ", validation")):
            values = record.steps.series.get(name)
            if values is not None and values.count:
                draw = means_of if name == "loss" else series_of
                lines.append(
                    draw(f"{record.label}{label}", values, () if label else marks_of(record))
                )
    title = f"Loss: {called}"
    if not lines:
        return Prose(f"{title}: no step of these runs has a finite loss.")
    return Drawing(line_plot(lines, title, "step", loss_unit(records[0])))


def _together(records: Sequence[RunRecord], plot: CurvePlot) -> Drawing | None:
    """A plot of all runs; of one with several lines the first alone, as each run has its own."""
    only = CurvePlot(plot.title, plot.y_label, plot.names[:1], plot.log_y, plot.smooth)
    lines: list[Series] = []
    for record in records:
        for series in drawn_series(record, only):
            lines.append(Series(record.label, series.x, series.y, series.marks))
    if not lines:
        return None
    title = plot.title if len(plot.names) == 1 else f"{plot.title}: {plot.names[0][1]}"
    return Drawing(line_plot(lines, title, "step", plot.y_label, plot.log_y))


def figures_section(models: Sequence[MeasuredModel]) -> PageSection:
    """The figures of all runs in columns, as those of a chain."""
    return evaluation_section(models)
