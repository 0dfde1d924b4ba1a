"""The held-out questions as a suite: whether what is known is answered, and nothing else.

Every question is asked once, every other one with the system prompt of the suite known-unknown,
which allows not to know; an answer is judged by the verifier of the questions that runs train on.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from launch.experiments.truth.held_out_questions import NEW, OLD, UNANSWERABLE, held_out_questions
from trainer.evaluate.respondent import Response, TextQuery, WrittenAnswer
from trainer.evaluate.suites.known_unknown import PLAIN
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext
from trainer.questions.question import Question
from trainer.questions.verifiers import verify

TOKENS = 32
_COUNTED = {
    "hallucination": ("wrong", False),
    "accuracy": ("right", True),
    "wrong": ("wrong", True),
    "over_refusal": ("declined", True),
}
_MEANS = {
    "hallucination": "unknowns that are answered",
    "accuracy": "knowns that are answered rightly",
    "wrong": "knowns that are answered wrongly",
    "over_refusal": "knowns that are declined",
}
SORTS = {"old_kinds": OLD, "new_kinds": NEW, "unanswerable": UNANSWERABLE}


@cache
def _by_id() -> dict[str, Question]:
    return {
        one.id: one if index % 2 else replace(one, system=PLAIN)
        for index, one in enumerate(held_out_questions())
    }


def questions() -> tuple[Question, ...]:
    """The questions as they are asked, with their system prompts."""
    return tuple(_by_id().values())


def _items(context: SuiteContext) -> list[Item]:
    return [
        Item(
            one.id,
            (TextQuery(one.prompt, TOKENS, ("\n",)),),
            {
                "question": one.text,
                "sort": one.kind,
                "answerable": one.answerable,
                "told": one.system is not None,
                "right": list(one.answers),
            },
        )
        for one in questions()[: context.limit]
    ]


def _judge(item: Item, answers: Sequence[Response]) -> ItemRecord:
    (answer,) = answers
    assert isinstance(answer, WrittenAnswer)
    verdict = verify(_by_id()[item.id], answer.text)
    return {"answer": answer.text.strip(), "outcome": verdict.outcome, "why": verdict.why}


def _share(
    outcome: str, answerable: bool, sort: str | None
) -> Callable[[ItemRecord], Sequence[float] | None]:
    def row(record: ItemRecord) -> Sequence[float] | None:
        counts = record["answerable"] is answerable and sort in (None, record["sort"])
        return [float(record["outcome"] == outcome)] if counts else None

    return row


def _figures(context: SuiteContext) -> dict[str, FigureKind]:
    found = {}
    for suffix, sort in [("", None), *((f"/{name}", sort) for name, sort in SORTS.items())]:
        of = f" ({sort})" if sort else ""
        counted = {name: _share(*counts, sort) for name, counts in _COUNTED.items()}
        for name, what in _MEANS.items():
            if sort == UNANSWERABLE and name != "hallucination":
                continue
            better: Literal["higher", "lower"] = "higher" if name == "accuracy" else "lower"
            found[f"{name}{suffix}"] = FigureKind(what + of, counted[name], better=better)
    return found


SUITE = Suite(
    name="held-out",
    measures="whether held-out questions are answered, and declined where nobody can know",
    leaves_out="long answers, other languages, what is in dispute",
    source="own questions; invented subjects from chains of letters and written by hand",
    rules=2,
    items=_items,
    judge=_judge,
    figures=_figures,
)
