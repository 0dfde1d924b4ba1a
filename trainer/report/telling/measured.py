"""The examinations of a chain: of each of its models the last one, named as a reader knows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.evaluate.intervals import Figure
from trainer.report.reading.examinations import StoredExamination, read_examinations
from trainer.report.reading.lineage import ChainLink
from trainer.report.reading.run_record import RunRecord


@dataclass(frozen=True)
class MeasuredModel:
    """A model with what suites found of it; `record`: the run that it is of, None for a base."""

    label: str
    examined: StoredExamination
    record: RunRecord | None

    def figure(self, name: str) -> Figure | None:
        """A figure by SUITE/FIGURE."""
        return self.examined.figures.get(name)


def measured_chain(chain: Sequence[ChainLink]) -> list[MeasuredModel]:
    """Of each link that was examined the last examination; before the first run that of its base.

    A run's own measurement of its base is taken where no earlier link has been examined.
    """
    found: list[MeasuredModel] = []
    for link in chain:
        if link.record is None:
            continue
        examinations = read_examinations(link.record.folder)
        bases = [one for one in examinations if one.step is None]
        own = [one for one in examinations if one.step is not None]
        if bases and not found:
            origin = link.origins[0].folder if link.origins else None
            named = next((one.label for one in chain if one.folder == origin), "base")
            found += _joined(named, bases, None)
        found += _last_of(link.record, own)
    return found


def measured_runs(records: Sequence[RunRecord]) -> list[MeasuredModel]:
    """Of each run the last examination."""
    found = []
    for record in records:
        own = [one for one in read_examinations(record.folder) if one.step is not None]
        found += _last_of(record, own)
    return found


def _last_of(record: RunRecord, own: Sequence[StoredExamination]) -> list[MeasuredModel]:
    """The last examination, joined with others of that step that measured other suites."""
    if not own:
        return []
    last = max(one.step or 0 for one in own)
    named = [one for one in own if one.step == last]
    label = record.label if _is_whole(record, last) else f"{record.label}, step {last:,}"
    return _joined(label, named, record)


def _joined(
    label: str, examinations: Sequence[StoredExamination], record: RunRecord | None
) -> list[MeasuredModel]:
    """A model for each examination; one that measured a suite again is told apart by its name."""
    found: list[MeasuredModel] = []
    for one in examinations:
        again = any(set(one.suites) & set(other.examined.suites) for other in found)
        found.append(MeasuredModel(f"{label} ({one.named})" if again else label, one, record))
    return found


def _is_whole(record: RunRecord, step: int) -> bool:
    return record.steps is None or step == record.steps.last


def suites_of(models: Sequence[MeasuredModel]) -> list[str]:
    """The suites that were measured of any of the models, in the order in which they come."""
    return list(dict.fromkeys(suite for model in models for suite in model.examined.suites))
