"""A suite of a few questions for the tests of the loop: every kind of query, figures either way."""

from collections.abc import Sequence

from trainer.errors import SuiteUnavailable
from trainer.evaluate.respondent import (
    Likelihood,
    LikelihoodQuery,
    Prompt,
    Response,
    TextQuery,
    TokensQuery,
    WrittenAnswer,
)
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext

QUESTIONS = ("the model reads", "and learns which", "a word comes", "next the text", "reads a")


def _items(context: SuiteContext) -> list[Item]:
    if context.seed == 99:
        raise SuiteUnavailable("tiny: has no questions for seed 99; name another")
    ids = tuple(context.respondent.encode("the model reads a text"))
    made = []
    for number, question in enumerate(QUESTIONS[: context.limit]):
        queries = (
            LikelihoodQuery(Prompt(question, plain=True), " the word"),
            TextQuery(Prompt(question), tokens=4, temperature=0.7, seed=context.seed + number),
            TokensQuery(ids[: 2 + number]),
        )
        made.append(Item(f"q{number}", queries, {"question": question}))
    return made


def _judge(item: Item, responses: Sequence[Response]) -> ItemRecord:
    likely, written, tokens = responses
    assert isinstance(likely, Likelihood)
    assert isinstance(written, WrittenAnswer)
    assert isinstance(tokens, Likelihood)
    return {"nats": -likely.total, "text": written.text, "seen": -tokens.total}


def _figures(context: SuiteContext) -> dict[str, FigureKind]:
    return {
        "nats": FigureKind("nats of an answer", lambda one: (one["nats"],), better="lower"),
        "likelihood": FigureKind("its negative", lambda one: (-one["nats"],), better="higher"),
        "seen": FigureKind("nats of a text", lambda one: (one["seen"],), better="lower"),
        "letters": FigureKind("letters written", lambda one: (len(one["text"]),)),
        "undefined": FigureKind(
            "never defined", lambda one: (1,), lambda rows: float("nan"), better="lower"
        ),
        "nobody": FigureKind("counts no item", lambda one: None, better="lower"),
    }


SUITE = Suite(
    name="tiny",
    measures="whether the loop measures",
    leaves_out="all else",
    source="none",
    rules=1,
    items=_items,
    judge=lambda item, responses: _judge(item, responses),
    figures=_figures,
)
