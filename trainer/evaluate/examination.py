"""Running a suite: its items through the model, records as they come, figures in the end."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.errors import TrainingError
from trainer.evaluate.intervals import figure_of
from trainer.evaluate.overlap import overlapping
from trainer.evaluate.records import FAILED, RecordFile
from trainer.evaluate.respondent import (
    NOT_FINITE,
    ContinuationQuery,
    LikelihoodQuery,
    Prompt,
    Query,
    Respondent,
    Response,
    TextQuery,
    TokensQuery,
    Unanswered,
)
from trainer.evaluate.suite_result import SuiteResult
from trainer.evaluate.suites.suite import Item, ItemRecord, Suite, SuiteContext
from trainer.parallel.agreement import Ranks, on_first_rank

IN_CORPUS = "in_corpus"
"""The key of a record that lists the training documents in which the item stands."""

ItemsDone = Callable[[str, int, int], None]
"""Called on the first rank with a suite's name, its items that are done, and its items in all."""


@dataclass(frozen=True)
class PreparedSuite:
    """A suite's items, made once for as many models as are examined.

    `items`: on the first rank; the others have their ids and queries alone. `asked`: 24 hex digits
    that follow from all that is asked. `in_corpus`: documents of the run's own training text that
    hold an item, by its id; None where none was searched.
    """

    suite: Suite
    context: SuiteContext
    items: Sequence[Item]
    asked: str
    in_corpus: Mapping[str, Sequence[str]] | None = None


def prepare(suite: Suite, context: SuiteContext, ranks: Ranks) -> PreparedSuite:
    """Make a suite's items, on the first rank; collective. Raises SuiteUnavailable on all ranks."""
    made: list[PreparedSuite] = []

    def make() -> tuple[str, list[Any]]:
        items = suite.items(context)
        names = Counter(item.id for item in items)
        assert names and max(names.values()) == 1, f"{suite.name}: no items, or two of one id"
        text = context.trained_on
        found = None if text is None else overlapping(items, text)
        digest = hashlib.sha256()
        for item in items:
            digest.update(repr((item.id, item.queries)).encode())
        asked = digest.hexdigest()[:24]
        made.append(PreparedSuite(suite, context, items, asked, found))
        if ranks.world == 1:
            return asked, []
        return asked, [[item.id, [_encoded(query) for query in item.queries]] for item in items]

    asked, shared = on_first_rank(ranks, make)
    if made:
        return made[0]
    items = [Item(name, tuple(map(_decoded, queries)), {}) for name, queries in shared]
    return PreparedSuite(suite, context, items, asked)


def examine(
    prepared: PreparedSuite,
    respondent: Respondent,
    ranks: Ranks,
    records: Path | None = None,
    model: Mapping[str, Any] | None = None,
    advance: ItemsDone = lambda suite, done, items: None,
) -> SuiteResult:
    """Ask the model all that has not been answered before; collective, the same on all ranks.

    `records`: the folder of the item-level records (None: nowhere); `model`: what tells one
    examined model from another, as JSON. An item that cannot be answered or judged is recorded with
    its reason, and loses no other. Raises TrainingError where records cannot be written; those that
    were stay.
    """
    suite = prepared.suite
    settings = {**settings_of(prepared), "model": dict(model or {})}
    with ExitStack() as held:
        file: list[RecordFile] = []

        def begin() -> list[str]:
            if records is None:
                return []
            asked = {item.id for item in prepared.items}
            opened = RecordFile(records, suite.name, settings, asked, _soundness(prepared))
            file.append(held.enter_context(opened))
            return list(file[0].done)

        known = set(on_first_rank(ranks, begin))
        left = [item for item in prepared.items if item.id not in known]
        before = [item.id for item in prepared.items if item.id in known]
        found = {name: file[0].done[name] for name in before} if file else {}
        account = _Account(prepared, found, file[0] if file else None, advance)
        account.take(left, respondent, reports=ranks.rank == 0)
        result = on_first_rank(ranks, account.result)
    return SuiteResult.of_json(result)


def settings_of(prepared: PreparedSuite) -> dict[str, Any]:
    """What decides a suite's items and judgements, whatever model is asked, as JSON."""
    suite, context = prepared.suite, prepared.context
    return {
        "suite": suite.name,
        "rules": suite.rules,
        "seed": context.seed,
        "limit": context.limit,
        "own": None if context.own is None else context.own.fingerprint,
        "options": dict(suite.options),
    }


def _soundness(prepared: PreparedSuite) -> Callable[[ItemRecord], bool]:
    """Whether a record of one of the items is of it as it is asked now, and figures can read it."""
    kinds = prepared.suite.figures(prepared.context).values()
    shown = {item.id: item.shown for item in prepared.items}

    def sound(record: ItemRecord) -> bool:
        asked = shown[record["id"]]
        if any(json.dumps(record.get(key)) != json.dumps(value) for key, value in asked.items()):
            return False
        try:
            for kind in kinds:
                list(map(float, kind.row(record) or ()))
        except Exception:  # whatever a suite's own code makes of what somebody wrote
            return False
        return True

    return sound


class _Account:
    """The records of one examination as they come, on the first rank."""

    def __init__(
        self,
        prepared: PreparedSuite,
        found: dict[str, ItemRecord],
        file: RecordFile | None,
        advance: ItemsDone,
    ) -> None:
        self._prepared, self._records, self._file = prepared, found, file
        self._advance, self._before = advance, len(found)
        self._failure: OSError | None = None

    def take(self, items: Sequence[Item], respondent: Respondent, reports: bool) -> None:
        """Ask all queries of the items at once; record each item when its last answer is there."""
        owners = [(item, n) for item in items for n in range(len(item.queries))]
        answers: dict[str, list[Response | None]] = {
            item.id: [None] * len(item.queries) for item in items
        }
        open_queries = {item.id: len(item.queries) for item in items}
        suite = self._prepared.suite.name
        for item in items:
            if reports and not item.queries:  # one that could not be made into a question
                self._record(item, [])
        self._advance(suite, len(self._records), len(self._prepared.items))
        for index, answer in respondent.responses([item.queries[n] for item, n in owners]):
            item, number = owners[index]
            answers[item.id][number] = answer
            open_queries[item.id] -= 1
            if open_queries[item.id] == 0 and reports:
                self._record(item, [one for one in answers.pop(item.id) if one is not None])
                self._advance(suite, len(self._records), len(self._prepared.items))

    def _record(self, item: Item, answers: list[Response]) -> None:
        record = {"id": item.id, **item.shown, **self._judged(item, answers)}
        if self._prepared.in_corpus is not None:
            record[IN_CORPUS] = list(self._prepared.in_corpus.get(item.id, ()))
        self._records[item.id] = record
        # The other ranks go on answering: what the disk refuses is said once they are together.
        if self._file is not None and self._failure is None:
            try:
                self._file.add(record)
            except OSError as error:
                self._failure = error

    def _judged(self, item: Item, answers: list[Response]) -> ItemRecord:
        reasons = [answer.reason for answer in answers if isinstance(answer, Unanswered)]
        # Whoever answers: comparisons with NaN are false, and an AUROC would be of nothing.
        reasons += [
            NOT_FINITE
            for answer in answers
            if not isinstance(answer, Unanswered) and not math.isfinite(sum(answer.nats))
        ]
        if reasons:
            return {FAILED: reasons[0]}
        try:
            return self._prepared.suite.judge(item, answers)
        except Exception as error:  # a judgement that fails is reported, and loses no other item
            return {FAILED: f"judging failed: {type(error).__name__}: {error}"}

    def result(self) -> dict[str, Any]:
        """The figures over all records; raises TrainingError where some could not be written."""
        if self._failure is not None and self._file is not None:
            raise TrainingError(
                f"{self._file.path}: cannot be written: {self._failure.strerror}; free some room,"
                " and the same command goes on from the records that are there"
            )
        suite, context = self._prepared.suite, self._prepared.context
        # Sums of floats depend on their order: that of the items, not of the answers.
        ordered = [self._records[item.id] for item in self._prepared.items]
        judged = [record for record in ordered if FAILED not in record]
        searched = self._prepared.in_corpus is not None
        in_corpus = (lambda record: bool(record.get(IN_CORPUS))) if searched else None
        figures = {
            name: figure
            for name, kind in {**suite.figures(context), **suite.found_figures(judged)}.items()
            if (figure := figure_of(name, kind, judged, context.seed, in_corpus)) is not None
        }
        failed = Counter(reason_kind(one[FAILED]) for one in ordered if FAILED in one)
        remarks = list(suite.remarks(figures))
        return SuiteResult(figures, len(ordered), dict(failed), self._before, remarks).as_json()


def reason_kind(reason: str) -> str:
    """What reasons of one kind have in common: "too long" of "too long: 2,100 tokens of 2,048"."""
    return reason.partition(":")[0]


_QUERIES: dict[str, type] = {
    kind.__name__: kind for kind in (LikelihoodQuery, TokensQuery, TextQuery, ContinuationQuery)
}


def _encoded(query: Query) -> list[Any]:
    return [type(query).__name__, asdict(query)]


def _decoded(encoded: Sequence[Any]) -> Query:
    name, parts = encoded[0], dict(encoded[1])
    if isinstance(parts.get("prompt"), dict):
        prompt = dict(parts["prompt"])
        prompt["shots"] = tuple((question, answer) for question, answer in prompt["shots"])
        parts["prompt"] = Prompt(**prompt)
    for key in ("prompt", "tokens", "stop"):
        if isinstance(parts.get(key), list):
            parts[key] = tuple(parts[key])
    query: Query = _QUERIES[name](**parts)
    return query
