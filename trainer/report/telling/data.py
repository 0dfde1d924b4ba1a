"""What a run read: the mixture, the funnel of each corpus, and what became of a set's examples."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.corpus.inspect.curation import Curation
from trainer.report.page.blocks import Drawing, Folded, PageBlock, PageSection, Prose, Samples
from trainer.report.page.table import DataTable
from trainer.report.plots.amounts import share
from trainer.report.plots.bars import funnel
from trainer.report.reading.corpora import ReadCorpus, read_corpora, read_own_sets
from trainer.report.reading.run_record import RunRecord
from trainer.report.reading.texts import SampledAnswers, read_sampled
from trainer.report.telling.wording import count_of

_CONTROLS = 40
_LISTED = 24
_SHOWN = 4
"""Sampled questions of a set that are shown."""
_MET = {
    "flattened": "written as text",
    "changes": "done to turns",
    "unread": "keys that nothing read",
}


def data_section(records: Sequence[RunRecord]) -> PageSection:
    """What each run of a chain read; a corpus that several read is shown once."""
    blocks: list[PageBlock] = []
    shown: set[str] = set()
    for record in records:
        blocks += _read_by(record, shown)
        for name, made_of in read_own_sets(record).items():
            blocks += _own_set(record, name, made_of)
    return PageSection("Data: what was read, and what was left out", blocks)


def _read_by(record: RunRecord, shown: set[str]) -> list[PageBlock]:
    """What a run read; corpora whose folders are `shown` already are only named."""
    if record.traits is not None and record.traits.asks:
        return [_questions(record)]
    corpora = read_corpora(record)
    if corpora is None:
        missing = f"{record.label} did not record what it read (no sources.json)."
        return [] if record.merge else [Prose(missing)]
    blocks: list[PageBlock] = [_mixture(record, corpora)]
    for corpus in corpora:
        if corpus.folder not in shown:
            shown.add(corpus.folder)
            blocks += _corpus(corpus)
    return blocks


def _questions(record: RunRecord) -> Prose:
    names = record.key("reinforce.questions") or ()
    files = ", ".join(str(name).rpartition("/")[2] for name in names)
    return Prose(
        f"{record.label} read no corpus: it was asked the questions of {files or 'its recipe'},"
        f" in groups of {record.key('reinforce.group')} answers each."
    )


def _mixture(record: RunRecord, corpora: Sequence[ReadCorpus]) -> DataTable:
    whole = sum(one.weight or 0.0 for one in corpora)
    rows = []
    for one in corpora:
        part = 1.0 if one.weight is None or not whole else one.weight / whole
        held_out = one.splits.get("validation", {}).get("documents")
        rows.append(
            (
                one.name,
                one.kind,
                share(part),
                one.documents,
                one.tokens,
                held_out,
            )
        )
    columns = ("source", "kind", "share of the mixture", "documents", "tokens", "held out")
    return DataTable(columns, rows, f"What {record.label} read")


def _corpus(corpus: ReadCorpus) -> list[PageBlock]:
    blocks: list[PageBlock] = []
    if corpus.examples:
        blocks += _examples(corpus.name, corpus.examples)
    elif corpus.missing:
        blocks.append(Prose(f"How {corpus.name} was made is not known: {corpus.missing}."))
    if corpus.curation is not None:
        blocks += _curated(corpus.name, corpus.curation)
    return blocks


def _own_set(record: RunRecord, name: str, made_of: Mapping[str, Any]) -> list[PageBlock]:
    """A set of what the run's own model says, as its set.json tells it."""
    blocks: list[PageBlock] = []
    if summary := made_of.get("summary"):
        told = str(summary).removeprefix(f"{name}: ")
        blocks.append(
            Prose(f"The set {name} of {record.label} is made of what its base says: {told}.")
        )
    rows = [
        (f"{key}, {part}" if part else key, number)
        for key, value in _pairs(made_of.get("counts"))
        for part, number in (_pairs(value) if isinstance(value, Mapping) else [("", value)])
        if type(number) is int and number
    ]
    if rows:
        caption = f"What became of the questions of {name}"
        table = DataTable(("count", "questions or examples"), rows, caption)
        blocks.append(Folded(caption, [table]))
    blocks += [_sampled(one) for one in read_sampled(record, name, _SHOWN)]
    return blocks


def _sampled(one: SampledAnswers) -> Samples:
    """What the base says when it is asked the same several times."""
    labels = [f"draw {number}" for number in range(1, len(one.texts) + 1)]
    texts = {label: text for label, (text, _) in zip(labels, one.texts, strict=True)}
    verdicts = {label: outcome for label, (_, outcome) in zip(labels, one.texts, strict=True)}
    return Samples(one.question, texts, verdicts)


def _pairs(found: Any) -> list[tuple[str, Any]]:
    if not isinstance(found, Mapping):
        return []
    return [(str(key).replace("_", " "), value) for key, value in found.items()]


def _curated(name: str, curation: Curation) -> list[PageBlock]:
    blocks: list[PageBlock] = []
    steps = curation.funnel
    if any(step.documents for step in steps):
        rows = [(step.name, float(step.documents)) for step in steps]
        first, last = steps[0], steps[-1]
        kept = share(last.documents / first.documents) if first.documents else "none"
        caption = (
            f"Of {count_of(first.documents, 'document')} {last.documents:,} were kept ({kept}),"
            f" with {last.shown_tokens} tokens."
        )
        if last.documents < first.documents:
            blocks.append(Drawing(funnel(rows, f"The funnel of {name}", "documents"), caption))
        else:
            blocks.append(Prose(f"{name}: {caption}"))
    if details := _details(name, curation):
        blocks.append(Folded(f"What each rule did to the documents of {name}", details))
    return blocks


def _details(name: str, curation: Curation) -> list[PageBlock]:
    """The most active rules, the languages, and what rules could not look for."""
    blocks: list[PageBlock] = []
    if controls := curation.top_controls(_CONTROLS):
        rows = [(one.rule, one.reason, one.threshold, one.dropped, one.changed) for one in controls]
        active = sum(bool(one.dropped or one.changed) for one in curation.controls)
        more = f", the {_CONTROLS} most active of {active}" if active > _CONTROLS else ""
        columns = ("rule", "reason", "threshold", "dropped", "changed")
        blocks.append(DataTable(columns, rows, f"Documents dropped and changed by rule{more}"))
    if len(languages := curation.top_languages(_LISTED)) > 1:
        blocks.append(DataTable(("language", "documents"), languages, f"Languages in {name}"))
    return blocks + [Prose(line) for line in curation.left_out_lines(_LISTED)]


def _examples(name: str, examples: Mapping[str, Any]) -> list[PageBlock]:
    """What became of a set's examples, from `ExampleCounts`."""
    blocks: list[PageBlock] = []
    read, used = _whole(examples, "read"), _whole(examples, "used")
    added, held_out = _whole(examples, "added"), _whole(examples, "held_out")
    held = f"; {held_out:,} {'is' if held_out == 1 else 'are'} held out" if held_out else ""
    if read and used == read and not added:
        blocks.append(Prose(f"All {count_of(read, 'example')} of {name} were used{held}."))
    elif read:
        formed = max(0, read - _whole(examples, "malformed"))
        short = max(0, formed - _whole(examples, "dropped_long"))
        rows = [("read", float(read)), ("well-formed", float(formed))]
        rows += [("not too long", float(short)), ("used", float(used))]
        rows += [("with counterfactuals", float(used + added))] if added else []
        more = f", and {added:,} counterfactual ones added" if added else ""
        title = f"What became of the examples of {name}"
        caption = f"Of {count_of(read, 'example')} {used:,} were used{more}{held}."
        blocks.append(Drawing(funnel(rows, title, "examples"), caption))
    if first := examples.get("first_malformed"):
        blocks.append(Prose(f"The first malformed example: {str(first)[:400]}"))
    met = [
        (label, key, number)
        for what, label in _MET.items()
        for key, number in _counted(examples.get(what))
    ]
    if met:
        table = DataTable(("what", "which", "examples"), met, f"Examples of {name}")
        blocks.append(Folded(f"What else was met in {name}", [table]))
    return blocks


def _whole(examples: Mapping[str, Any], name: str) -> int:
    value = examples.get(name)
    return value if type(value) is int and value > 0 else 0


def _counted(found: Any) -> list[tuple[str, int]]:
    if not isinstance(found, Mapping):
        return []
    counts = [(str(key), value) for key, value in found.items() if type(value) is int]
    return sorted(counts, key=lambda one: (-one[1], one[0]))[:_LISTED]
