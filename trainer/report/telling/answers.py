"""What models say, before and after: chosen by hash, with the counts of all that changed."""

from collections import Counter
from collections.abc import Mapping, Sequence

from trainer.report.page.blocks import Folded, PageBlock, PageSection, Prose, Samples
from trainer.report.page.table import Cell, DataTable
from trainer.report.reading.records import VERDICTS, JudgedAnswer, judged_answers, shortened_text
from trainer.report.reading.run_record import RunRecord
from trainer.report.reading.texts import RewardedAnswer, by_hash, read_rewarded, read_samples
from trainer.report.telling.measured import MeasuredModel, suites_of
from trainer.report.telling.wording import count_of, value_text

A_CHANGE = 3
"""Questions that are shown of each way in which verdicts changed."""
_PROMPTS = 6
_ASKED = {True: "of what can be known", False: "of what nobody can know"}

Change = tuple[str, str]
"""Two verdicts: before and after."""
_TOLD: list[Change] = [
    *(("wrong", "declined"), ("wrong", "right"), ("right", "wrong"), ("right", "declined")),
]
"""What a cure is for, and what it costs; as many of the one as of the other are shown."""
_OTHERS = [(a, b) for a in VERDICTS for b in VERDICTS if (a, b) not in _TOLD]


def answers_section(models: Sequence[MeasuredModel], records: Sequence[RunRecord]) -> PageSection:
    """Suites' answers of the first and the last model, and the texts that runs wrote."""
    blocks: list[PageBlock] = []
    for suite in suites_of(models):
        asked = [model for model in models if suite in model.examined.suites]
        if len(asked) > 1:
            blocks += changed_answers(suite, asked[0], asked[-1])
    for record in records:
        blocks += _written(record) + _rewarded(record)
    if not blocks:
        blocks.append(
            Prose(
                "No texts were kept. evaluate.sample_every with evaluate.prompts writes samples"
                " while a run learns; a suite that is measured before and after shows its answers."
            )
        )
    return PageSection("Answers, before and after", blocks)


def changed_answers(suite: str, first: MeasuredModel, last: MeasuredModel) -> list[PageBlock]:
    """The questions of a suite that both models were asked: all changes counted, some shown."""
    before = judged_answers(first.examined.records, suite)
    after = judged_answers(last.examined.records, suite)
    common = [name for name in before if name in after]
    if not common:
        return []
    changes = {name: (before[name].verdict, after[name].verdict) for name in common}
    counts = Counter((before[name].answerable, changes[name]) for name in common)
    blocks: list[PageBlock] = [
        Prose(
            f"The {len(common):,} questions of {suite} that both {first.label} and {last.label}"
            " were asked. Which are shown is decided by the hash of their names alone, up to"
            f" {A_CHANGE} of each kind of change; the table counts all of them."
        ),
        _counts(suite, counts, (first.label, last.label)),
    ]
    labels = _two_labels(first.label, last.label)
    for change in _TOLD:
        blocks += _of_change(change, before, after, common, labels)
    rest = [one for change in _OTHERS for one in _of_change(change, before, after, common, labels)]
    if rest:
        blocks.append(Folded("The other changes, and what stayed as it was", rest))
    return blocks


def _of_change(
    change: Change,
    before: Mapping[str, JudgedAnswer],
    after: Mapping[str, JudgedAnswer],
    common: Sequence[str],
    labels: tuple[str, str],
) -> list[PageBlock]:
    """Some of the questions whose verdicts changed so, chosen by hash, under how many there are."""
    blocks: list[PageBlock] = []
    first, last = change
    then = f"Still {last}" if first == last else f"First {first}, then {last}"
    for answerable, what in _ASKED.items():
        names = [
            name
            for name in common
            if (before[name].verdict, after[name].verdict) == change
            and before[name].answerable is answerable
        ]
        if names:
            blocks.append(Prose(f"{then}, {what}: {count_of(len(names), 'question')}."))
        blocks += [_pair(before[name], after[name], labels) for name in by_hash(names)[:A_CHANGE]]
    return blocks


def _counts(suite: str, counts: Counter[tuple[bool, Change]], labels: tuple[str, str]) -> DataTable:
    rows: list[list[Cell]] = []
    for answerable in (True, False):
        for before in VERDICTS:
            numbers = [counts[answerable, (before, after)] for after in VERDICTS]
            if any(numbers):
                rows.append([f"{_ASKED[answerable]}, {before} before", *numbers, sum(numbers)])
    columns = (f"{labels[0]}", *(f"then {one}" for one in VERDICTS), "all")
    return DataTable(columns, rows, f"{suite}: what became of the answers with {labels[1]}")


def _pair(before: JudgedAnswer, after: JudgedAnswer, labels: tuple[str, str]) -> Samples:
    return Samples(
        before.question,
        {labels[0]: before.answer, labels[1]: after.answer},
        {labels[0]: before.verdict, labels[1]: after.verdict},
    )


def _two_labels(first: str, last: str) -> tuple[str, str]:
    return (first, last) if first != last else (f"{first}, before", f"{last}, after")


def _written(record: RunRecord) -> list[PageBlock]:
    """The first and the last sample behind each prompt of a run."""
    samples = read_samples(record.folder)
    chosen = by_hash(samples)[:_PROMPTS]
    blocks: list[PageBlock] = []
    if chosen:
        more = f"; {_PROMPTS} of its {len(samples)} prompts" if len(samples) > _PROMPTS else ""
        blocks.append(
            Prose(f"What {record.label} wrote behind its prompts while it learned{more}.")
        )
    for prompt in chosen:
        texts = {f"step {one.step:,}": shortened_text(one.text) for one in samples[prompt]}
        blocks.append(Samples(prompt, texts))
    return blocks


def _rewarded(record: RunRecord) -> list[PageBlock]:
    """The same questions in the first samplings of a reinforced run and in the last."""
    first, last = read_rewarded(record.folder)
    if not first or not last:
        return []
    early, late = _by_question(first), _by_question(last)
    common = [question for question in early if question in late]
    blocks: list[PageBlock] = [_outcomes(record, first, last)]
    for question in by_hash(common)[:_PROMPTS]:
        pair = (early[question], late[question])
        labels = [f"step {one.step:,}" for one in pair]
        texts = {label: shortened_text(one.text) for label, one in zip(labels, pair, strict=True)}
        verdicts = {
            label: f"{one.outcome}, reward {value_text(one.reward)}"
            for label, one in zip(labels, pair, strict=True)
        }
        blocks.append(Samples(question, texts, verdicts))
    return blocks


def _by_question(answers: Sequence[RewardedAnswer]) -> dict[str, RewardedAnswer]:
    """Of each question one answer, by the hash of its text."""
    found: dict[str, list[str]] = {}
    texts: dict[tuple[str, str], RewardedAnswer] = {}
    for one in answers:
        found.setdefault(one.question, []).append(one.text)
        texts[one.question, one.text] = one
    return {question: texts[question, by_hash(of)[0]] for question, of in found.items()}


def _outcomes(
    record: RunRecord, first: Sequence[RewardedAnswer], last: Sequence[RewardedAnswer]
) -> DataTable:
    rows: list[list[Cell]] = []
    for name, answers in (("first", first), ("last", last)):
        counts = Counter(one.outcome for one in answers)
        steps = sorted({one.step for one in answers})
        label = f"{name} samplings that are kept, from step {steps[0]:,} to {steps[-1]:,}"
        rows.append([label, *(counts[one] for one in ("right", "declined", "wrong"))])
    columns = ("answers of", "right", "declined", "wrong")
    return DataTable(columns, rows, f"Answers that {record.label} was rewarded for")
