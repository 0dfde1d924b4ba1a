"""The pages of a report: one of a run with all that it came from, one of several runs beside."""

import math
from collections.abc import Sequence

from trainer import __version__
from trainer.report.page.blocks import KeyFigures, Page, PageBlock, PageSection
from trainer.report.plots.amounts import amount, share
from trainer.report.reading.lineage import ChainLink, chain_of
from trainer.report.reading.run_record import RunRecord
from trainer.report.telling.answers import answers_section
from trainer.report.telling.comparison import (
    curves_section,
    figures_section,
    keys_section,
    overview_section,
)
from trainer.report.telling.data import data_section
from trainer.report.telling.evaluation import evaluation_section, progress_drawings
from trainer.report.telling.layout import (
    checkpoints_section,
    layout_section,
    reproduction_section,
)
from trainer.report.telling.measured import MeasuredModel, measured_chain, measured_runs, suites_of
from trainer.report.telling.story import story_section
from trainer.report.telling.training import VALIDATION, earlier_section, training_section
from trainer.report.telling.truth import OCCURRENCE
from trainer.report.telling.wording import count_of, duration, state_of, value_text

_FOOTER = f"Written by lyceum {__version__}."


def page_of_run(record: RunRecord) -> Page:
    """A run from its data to its answers, with the stages that it came from."""
    chain = chain_of(record)
    records = [link.record for link in chain if link.record is not None]
    models = measured_chain(chain)
    measured = evaluation_section(models)
    progress: list[PageBlock] = list(progress_drawings(record))
    sections = [
        PageSection("In short", [_key_figures(record, models)]),
        story_section(chain),
        data_section(records),
        training_section(record),
        earlier_section(records[:-1]),
        PageSection(measured.title, [*measured.blocks, *progress], measured.note),
        answers_section(models, records),
        layout_section(record),
        checkpoints_section(record),
        reproduction_section(records),
    ]
    return Page(
        f"{record.label}: {record.called}",
        _lead(record, chain),
        [section for section in sections if section is not None],
        _FOOTER,
    )


def page_of_runs(records: Sequence[RunRecord]) -> Page:
    """Several runs side by side."""
    models = measured_runs(records)
    sections = [
        overview_section(records),
        keys_section(records),
        *curves_section(records),
        figures_section(models),
        answers_section(models, records),
        data_section(records),
        reproduction_section(records),
    ]
    names = ", ".join(record.label for record in records)
    lead = f"{len(records)} runs side by side: how they differ, how they learned, what they know."
    return Page(
        names if len(names) < 100 else f"{len(records)} runs",
        lead,
        [section for section in sections if section is not None],
        _FOOTER,
    )


def _lead(record: RunRecord, chain: Sequence[ChainLink]) -> str:
    """The chain in a line, how the run stands, and where it lies."""
    names = " \u2192 ".join(link.label for link in chain)
    came = f"The last of {len(chain)} models that came of each other: {names}. "
    return f"{came if len(chain) > 1 else ''}State: {state_of(record)}. Folder: {record.folder}"


def _key_figures(record: RunRecord, models: Sequence[MeasuredModel]) -> KeyFigures:
    steps = record.steps
    state, reason = record.state, str(record.status.get("reason") or "")
    if record.merge is not None:
        state, reason = "merged", record.merge.line
    figures = [("state", state, reason)]
    if record.parameters is not None:
        figures.append(("parameters", amount(record.parameters), f"{record.parameters:,}"))
    figures += _headlines(models)
    if steps is None:
        return KeyFigures(figures)
    planned = record.key("steps")
    figures.append(("steps", f"{steps.last:,}", f"of {planned:,}" if type(planned) is int else ""))
    if steps.tokens is not None:
        figures.append(("tokens", amount(steps.tokens), "read by this run"))
    loss, held_out = steps.last_value("loss"), steps.last_value(VALIDATION)
    if loss is not None:
        figures.append(("last loss", value_text(loss), "of the last step alone"))
    if held_out is not None:
        figures.append(("validation loss", value_text(held_out), "on held-out data"))
    figures.append(("time of steps", duration(steps.seconds), "without evaluating and saving"))
    if steps.skipped_count:
        figures.append(("skipped", count_of(steps.skipped_count, "step"), "not finite"))
    return KeyFigures(figures)


def _headlines(models: Sequence[MeasuredModel]) -> list[tuple[str, str, str]]:
    """Hallucination and accuracy of the last model, beside the first that was asked the same."""
    found = []
    for suite in suites_of(models):
        asked = [model for model in models if suite in model.examined.suites]
        for name in ("hallucination", "accuracy"):
            values = [
                one for model in asked if (one := model.figure(f"{suite}/{name}")) is not None
            ]
            if values and math.isfinite(values[-1].value) and suite != OCCURRENCE:
                before = f"; before {share(values[0].value)}" if len(values) > 1 else ""
                found.append((name, share(values[-1].value), f"of {suite}{before}"))
    return found
