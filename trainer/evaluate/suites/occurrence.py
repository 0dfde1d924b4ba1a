"""The suite `occurrence`: what a model knows, by how often its training text says it.

Facts are found in the training text itself (`trainer.evaluate.facts`): a subject and what a
sentence says of it, by a few English patterns, or by clozes in any text. How often a fact occurs is
the number of sentences of training documents that hold both subject and object. Items are
sentences up to the object, as plain text, in the wording of another document where several state
the fact, about 40 for each group of occurrences.

*Accuracy*: the object is likelier than 15 others that the text says of other subjects in the same
kind of sentence (by chance 1 in 16; where several are likeliest each gets its share;
a model that has learned only which objects are common is below that for rare facts). *Exact*: the
greedy continuation begins with the object's words. *Hallucination*: it does not, although the model
gives each token of what it wrote a probability of 0.5 or more (geometric mean). A continuation that
is as true as the text's own counts as wrong: of clozes there may be some, which is why the rivals
decide first, and why figures of two models on the same text are to be compared.

*Error* is the probability of the wrong answers among the 16, facts weighted as they occur, and
*lower_bound* what it cannot be below for a model that knows its facts from this text alone:
`trainer.evaluate.facts.bound`, with the singleton rate and the calibration term beside it. The
bound is for base models; it is vacuous at 0 and below, as in every small corpus, which is then said
below the table and, in training, in the log.

It does not measure what is true in the world, nor facts that no sentence states whole.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainer.corpus.rules.word_runs import words_of
from trainer.evaluate.confidence import token_confidence
from trainer.evaluate.facts.bound import above, error_bound, miscalibration, samples_term
from trainer.evaluate.facts.mining import CountedFact, mined_facts, rivals_of
from trainer.evaluate.facts.statements import CLOZE
from trainer.evaluate.occurrence_buckets import BUCKETS, by_bucket, shared_out
from trainer.evaluate.respondent import (
    Likelihood,
    LikelihoodQuery,
    Prompt,
    Query,
    Response,
    TextQuery,
    WrittenAnswer,
)
from trainer.evaluate.suites.suite import (
    FigureKind,
    Item,
    ItemRecord,
    Suite,
    SuiteContext,
    SuiteUnavailable,
    ratio,
)

if TYPE_CHECKING:
    from trainer.evaluate.intervals import Figure

_BY_BUCKET: tuple[tuple[str, str, Literal["higher", "lower"], str], ...] = (
    ("accuracy", "right", "higher", "share of facts whose object is likelier than its rivals"),
    (
        *("hallucination", "hallucinated", "lower"),
        "share of facts that are completed otherwise, with confidence",
    ),
    ("exact", "exact", "higher", "share of facts that are completed as the text says"),
)
"""Figures by bucket: name, key of the record, which way is good, what it means."""

RIVALS = 15
IN_BUCKET = 40
CONFIDENT = 0.5
"""Geometric mean of the probabilities of a continuation's tokens from which it is confident."""


def _items(context: SuiteContext) -> list[Item]:
    if context.own is None:
        raise SuiteUnavailable(
            "occurrence: asks for facts of the text that a model was trained on, and there is none:"
            " give a run with its corpora, or name text by --corpus or --text"
        )
    facts = mined_facts(context.own)
    dice = np.random.default_rng(context.seed)
    rivals = rivals_of(facts, RIVALS, dice)
    asked = [(facts[number], others) for number, others in rivals.items()]
    if not asked:
        raise SuiteUnavailable(
            f"occurrence: the text states no fact with {RIVALS} others of its kind: name more text"
        )
    samples = sum(fact.occurrences for fact, _ in asked)
    singletons = sum(fact.occurrences == 1 for fact, _ in asked)
    corpus = {"samples": samples, "singletons": singletons}
    chosen: list[Item] = []
    groups = [[one for one in asked if one[0].bucket == group] for group in BUCKETS]
    sizes = [min(len(members), IN_BUCKET) for members in groups]
    counts = sizes if context.limit is None else shared_out(context.limit, sizes)
    for members, wanted in zip(groups, counts, strict=True):
        # Patterns first: what they find is surer to be a fact.
        order = sorted(dice.permutation(len(members)), key=lambda n: _is_cloze(members[n][0]))
        taken = [members[number] for number in order[:wanted]]
        of_group = sum(fact.occurrences for fact, _ in members)
        for fact, others in taken:
            weight = of_group / len(taken)
            chosen.append(_item(context, fact, others, corpus | {"weight": weight}))
    return chosen


def _is_cloze(fact: CountedFact) -> bool:
    return fact.kind.startswith(CLOZE)


def _item(
    context: SuiteContext, fact: CountedFact, rivals: Sequence[str], corpus: Mapping[str, Any]
) -> Item:
    prompt = Prompt(fact.prefix, plain=True)
    answers = [f" {answer}" for answer in (fact.object, *rivals)]
    tokens = len(context.respondent.encode(answers[0])) + 2
    queries: tuple[Query, ...] = (
        *(LikelihoodQuery(prompt, answer) for answer in answers),
        TextQuery(prompt, tokens=tokens, stop=("\n",)),
    )
    shown = {
        "question": fact.prefix,
        "answer": fact.object,
        "rivals": list(rivals),
        "subject": fact.subject,
        "kind": fact.kind,
        "occurrences": fact.occurrences,
        "bucket": fact.bucket,
        **corpus,
    }
    name = "/".join((fact.kind.removeprefix(CLOZE), fact.subject, fact.object))
    return Item(name, queries, shown, (fact.prefix + answers[0],))


def _judge(item: Item, answers: Sequence[Response]) -> ItemRecord:
    totals = np.array([answer.total for answer in answers if isinstance(answer, Likelihood)])
    (written,) = [answer for answer in answers if isinstance(answer, WrittenAnswer)]
    if not np.isfinite(totals).all():
        raise ValueError("a likelihood is not a number")
    shares = np.exp(totals - totals.max())
    probabilities = (shares / shares.sum()).tolist()
    best = int((totals == totals.max()).sum())
    right, said = words_of(item.shown["answer"]), words_of(written.text)
    exact = said[: len(right)] == right
    confidence = token_confidence(written)
    likely, known = above(probabilities, len(item.shown["rivals"]))
    return {
        "written": written.text,
        "confidence": confidence,
        "right": 1 / best if totals[0] == totals.max() else 0.0,
        "exact": float(exact),
        "hallucinated": float(bool(said) and not exact and confidence >= CONFIDENT),
        "error": 1 - probabilities[0],
        "likely": likely,
        "known": float(known),
    }


def _bound(rows: np.ndarray) -> float:
    """Columns: weight, q and p of A, |S|, N, |E|."""
    weights, model, text, singletons, samples, wrong = rows.T
    delta = miscalibration(weights, model, text)
    rate = singletons[0] / samples[0]
    return error_bound(rate, float(samples[0]), float(wrong.min()), delta).value


def _number(key: str) -> Callable[[ItemRecord], Sequence[float]]:
    return lambda record: [record[key]]


def _figures(context: SuiteContext) -> Mapping[str, FigureKind]:
    def bucket(record: ItemRecord) -> str:
        return str(record["bucket"])

    figures: dict[str, FigureKind] = {}
    for name, key, better, means in _BY_BUCKET:
        figures |= by_bucket(name, FigureKind(means, _number(key), better=better), bucket)
    figures["error"] = FigureKind(
        "probability of wrong answers among those offered, facts weighted as they occur",
        lambda record: [record["weight"] * record["error"], record["weight"]],
        ratio,
        better="lower",
    )
    figures["lower_bound"] = FigureKind(
        "what a base model's errors cannot be below (arXiv 2509.04664); 0 and less say nothing",
        lambda record: [
            *(record["weight"], record["likely"], record["known"]),
            *(record["singletons"], record["samples"], len(record["rivals"])),
        ],
        _bound,
    )
    figures["singleton_rate"] = FigureKind(
        "share of the occurrences of facts that are a fact's only one",
        lambda record: [record["singletons"], record["samples"]],
        ratio,
    )
    figures["miscalibration"] = FigureKind(
        "the bound's calibration term, at one threshold",
        lambda record: [record["weight"], record["likely"], record["known"]],
        lambda rows: miscalibration(*rows.T),
        better="lower",
    )
    figures["fact_occurrences"] = FigureKind(
        "N, the occurrences of facts in the corpus, from which the bound follows",
        lambda record: [record["samples"]],
    )
    return figures


def _remarks(found: "Mapping[str, Figure]") -> list[str]:
    """That the bound says nothing, where it says nothing."""
    bound = found.get("lower_bound")
    # Not defined, it is NaN, which is neither.
    if bound is None or not bound.value <= 0:
        return []
    samples, rate = found["fact_occurrences"].value, found["singleton_rate"].value
    return [
        f"lower_bound is vacuous, at 0 or less: of N = {samples:,.0f} occurrences of facts"
        f" {rate:.2f} are a fact's only one, and the theorem takes 2 / {RIVALS}, (35 + 6 ln N) /"
        f" sqrt(N) = {samples_term(samples):.2f} and miscalibration from that"
    ]


SUITE = Suite(
    "occurrence",
    measures="How well a model knows the facts of its training text, and how often it is wrong with"
    " confidence, by how often they stand there; the bound on errors by facts that occur once.",
    leaves_out="Whether they are true in the world, and facts that no sentence states whole.",
    source="Kalai, Nachum, Vempala and Zhang, Why Language Models Hallucinate, 2025.",
    rules=2,
    items=_items,
    judge=_judge,
    figures=_figures,
    counts_in_corpora=True,
    remarks=_remarks,
    options={"rivals": RIVALS, "in_bucket": IN_BUCKET},
)
