"""How a model came about: each stage of its chain in a sentence, and all in a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.report.page.blocks import PageSection, StepChain
from trainer.report.page.table import Cell, DataTable
from trainer.report.reading.lineage import ChainLink, ChainOrigin
from trainer.report.reading.run_record import RunRecord
from trainer.report.telling.stages import purpose_of
from trainer.report.telling.training import VALIDATION
from trainer.report.telling.wording import count_of, duration, state_of, value_text

_COLUMNS = ("model", "stage", "steps", "tokens", "last loss", "validation", "time of steps")


def story_section(chain: Sequence[ChainLink]) -> PageSection:
    """The chain that ends in the last link."""
    labels = {link.folder: link.label for link in chain}
    steps = StepChain([(_heading(link), _told(link, labels)) for link in chain])
    rows = [_row(link) for link in chain]
    filled = [
        place for place in range(len(_COLUMNS)) if any(row[place] is not None for row in rows)
    ]
    table = DataTable(
        [_COLUMNS[place] for place in filled],
        [[row[place] for place in filled] for row in rows],
        "The chain, the oldest first",
    )
    return PageSection("How this model came about", [steps, table])


def _heading(link: ChainLink) -> str:
    if link.record is None:
        return link.label
    return f"{link.label}: {link.record.called}"


def _told(link: ChainLink, labels: Mapping[Path, str]) -> str:
    if link.kind == "gone":
        return f"Is not there any more ({link.folder}), so its part of the story is missing."
    if link.record is None:
        licence = f" Its card names the licence {link.licence}." if link.licence else ""
        return f"Was made elsewhere, and came as it is.{licence}"
    record = link.record
    purpose = purpose_of(record)
    if record.merge is not None:
        return f"{purpose}: {_origins(link.origins, labels)}."
    words = f"{purpose}. It began from {_start(link, labels)}"
    steps = record.steps
    if steps is None:
        return f"{words}; it has no step on record. State: {state_of(record)}."
    words += f", and made {count_of(steps.last, 'step')}"
    if steps.tokens is not None:
        words += f" over {count_of(steps.tokens, 'token')}"
    if record.key("lora"):
        words += f"; only adapters of rank {record.key('lora.rank')} learned"
    loss = steps.series.get("loss")
    if loss is not None and loss.first is not None and loss.last is not None:
        words += f". The loss went from {value_text(loss.first[1])} to {value_text(loss.last[1])}"
    return f"{words}." if record.state == "done" else f"{words}. State: {state_of(record)}."


def _start(link: ChainLink, labels: Mapping[Path, str]) -> str:
    return _origins(link.origins, labels) if link.origins else "random weights"


def _origins(origins: Sequence[ChainOrigin], labels: Mapping[Path, str]) -> str:
    return " + ".join(_origin(one, labels) for one in origins)


def _origin(one: ChainOrigin, labels: Mapping[Path, str]) -> str:
    name = labels.get(one.folder, one.folder.name)
    share = "" if one.weight is None else f"{one.weight:.4g} \u00d7 "
    step = f", step {one.step:,}" if one.step else ""
    return f"{share}{name}{step}" + (" (its averaged weights)" if one.averaged else "")


def _row(link: ChainLink) -> list[Cell]:
    record = link.record
    if record is None:
        stage = "gone" if link.kind == "gone" else "imported model"
        return [link.label, stage, *[None] * 5]
    return [link.label, record.called, *_figures(record)]


def _figures(record: RunRecord) -> list[Cell]:
    steps = record.steps
    if steps is None:
        return [None] * 5
    return [
        steps.last,
        steps.tokens,
        steps.last_value("loss"),
        steps.last_value(VALIDATION),
        duration(steps.seconds),
    ]
