"""Calibration: whether a model's confidence agrees with how often it is right.

Two parts, over facts that exist (`world_facts/world.py`). *Multiple choice*: four answers of the
same kind to a question; the likelihoods of the four texts behind it, brought to the sum of 1, are
the model's confidences, the largest is its choice. The four are not listed in the question: small
models take the one that stands first. *Free answers*: what the model writes by itself; its
confidence is the mean probability of the tokens that it wrote (the geometric mean: that of a whole
sentence is next to nothing, whatever the model knows). Answers that abstain count in neither error
nor accuracy (`free_answered` says how many are left).

`ece` is the expected calibration error over adaptive bins (equal numbers of items, 20 at least,
10 bins at most); a few hundred items are never exactly calibrated, so `ece_excess` gives what is
left of it beyond what chance alone does: about 0 for a calibrated model. Beside them the Brier
score (of the choice: confidence against right or wrong) and the accuracy, without which a model
that always says 25% looks well.

Measures: confidence in terms of probability, on widely known facts. Does not measure: confidence in
words ("I'm fairly sure"), or of long answers; the likelihood of a text is that of this wording, not
of all that mean the same, and favours short ones. Sources: Nguyen and O'Connor, 2015 (adaptive
bins); Brier, 1950; Guo and others, "On Calibration of Modern Neural Networks", 2017.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.evaluate.confidence import (
    brier,
    calibration_error,
    calibration_excess,
    overconfidence,
    token_confidence,
)
from trainer.evaluate.judging.answers import outcome
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.respondent import (
    Likelihood,
    LikelihoodQuery,
    Prompt,
    Response,
    TextQuery,
    WrittenAnswer,
)
from trainer.evaluate.suites import other_script
from trainer.evaluate.suites.known_unknown import SHOTS, TOKENS
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext
from trainer.evaluate.world_facts.questions import FactQuestion, about_of, expected_of, known
from trainer.evaluate.world_facts.world import KINDS, facts_of

CHOICES_A_KIND, FREE_A_KIND = 20, 8
"""Questions of each kind that are asked with choices, and without."""
OPTIONS = 4
ANSWER_ALONE = "Give the answer alone, in as few words as possible."
CHOICE_SHOTS = tuple(shot for shot in SHOTS if "know" not in shot[1])
"""Before a choice, none of whose answers is a refusal."""


def _items(context: SuiteContext) -> list[Item]:
    chats = context.respondent.chats
    found: list[Item] = []
    # Kinds in turn, and both parts in proportion, so that a limit leaves them even.
    questions = [known(kind, context.seed, CHOICES_A_KIND + FREE_A_KIND) for kind in KINDS]
    for number in range(CHOICES_A_KIND + FREE_A_KIND):
        free = number * FREE_A_KIND // (CHOICES_A_KIND + FREE_A_KIND) != (
            (number + 1) * FREE_A_KIND // (CHOICES_A_KIND + FREE_A_KIND)
        )
        for one in questions:
            question = one[number]
            found.append(_free(question, chats) if free else _choice(question, chats, context.seed))
    return found[: context.limit]


def _choice(question: FactQuestion, chats: bool, seed: int) -> Item:
    options, right = options_of(question, random.Random(f"{seed}/{question.id}/options"))
    prompt = Prompt(question.text, system=ANSWER_ALONE, shots=() if chats else CHOICE_SHOTS)
    queries = tuple(LikelihoodQuery(prompt, option) for option in options)
    shown = {"part": "choice", "question": question.text, "options": options, "right": right}
    return Item(f"choice/{question.id}", queries, shown, question.passages)


def options_of(question: FactQuestion, draws: random.Random) -> tuple[list[str], int]:
    """Four answers of the question's kind in an order by chance, and the index of the right one.

    The wrong ones are right of other facts, and none is another name of the right one.
    """
    fact = question.fact
    assert fact is not None, question.id
    own = {plain_words(name) for name in fact.right}
    signs = KINDS[question.kind].form == "sign"
    others = {
        (other.right[0] if signs else plain_words(other.right[0])): other.right[0]
        for other in facts_of(question.kind)
        if own.isdisjoint(plain_words(name) for name in other.right)
    }
    options = [fact.right[0], *draws.sample(sorted(others.values()), OPTIONS - 1)]
    draws.shuffle(options)
    return options, options.index(fact.right[0])


def _free(question: FactQuestion, chats: bool) -> Item:
    prompt = Prompt(question.text, system=ANSWER_ALONE, shots=() if chats else SHOTS)
    shown = {
        "part": "free",
        "question": question.text,
        "kind": question.kind,
        "subject": question.subject,
        "right": list(question.fact.right) if question.fact else [],
    }
    query = TextQuery(prompt, TOKENS, ("\n",))
    return Item(f"free/{question.id}", (query,), shown, question.passages)


def _judge(item: Item, answers: Sequence[Response]) -> ItemRecord:
    if item.shown["part"] == "choice":
        totals = [answer.total for answer in answers if isinstance(answer, Likelihood)]
        shares = np.exp(np.array(totals) - np.logaddexp.reduce(totals))
        choice = int(shares.argmax())
        return {
            "probabilities": [float(one) for one in shares],
            "choice": choice,
            "confidence": float(shares[choice]),
            "verdict": "right" if choice == item.shown["right"] else "wrong",
        }
    (answer,) = answers
    assert isinstance(answer, WrittenAnswer)
    verdict, _ = outcome(answer.text, expected_of(item.shown), about_of(item.shown))
    return {
        "answer": answer.text.strip(),
        "confidence": token_confidence(answer),
        "verdict": verdict,
    }


def _pair(part: str, record: ItemRecord) -> list[float] | None:
    """The confidence of an answer and whether it is right; None where it abstains."""
    if record["part"] != part or record["verdict"] == "abstained":
        return None
    return [record["confidence"], float(record["verdict"] == "right")]


def _free_answered(record: ItemRecord) -> list[float] | None:
    return [float(record["verdict"] != "abstained")] if record["part"] == "free" else None


def _right(rows: np.ndarray) -> float:
    """The share of right answers."""
    return float(rows[:, 1].mean())


def _of_part(part: str, prefix: str, among: str) -> dict[str, FigureKind]:
    def pair(record: ItemRecord) -> list[float] | None:
        return _pair(part, record)

    return {
        f"{prefix}ece": FigureKind(
            f"distance of confidence and share of right answers, {among}",
            pair,
            calibration_error,
            "lower",
        ),
        f"{prefix}ece_excess": FigureKind(
            f"what of it chance does not explain, {among}", pair, calibration_excess, "lower"
        ),
        f"{prefix}brier": FigureKind(
            f"squared distance of confidence and outcome, {among}", pair, brier, "lower"
        ),
        f"{prefix}overconfidence": FigureKind(
            f"mean confidence less the share of right answers, {among}", pair, overconfidence
        ),
        f"{prefix}accuracy": FigureKind(f"right answers, {among}", pair, _right, "higher"),
    }


def _figures(context: SuiteContext) -> Mapping[str, FigureKind]:
    return {
        **_of_part("choice", "", "of four choices"),
        **_of_part("free", "free_", "of free answers"),
        "free_answered": FigureKind("free questions that are answered", _free_answered),
        **other_script.FIGURES,
    }


SUITE = Suite(
    name="calibration",
    measures="whether confidence agrees with how often the model is right",
    leaves_out="confidence in words, long answers, other wordings of the same answer",
    source="Nguyen and O'Connor 2015 (adaptive bins); Brier 1950; items written here",
    rules=18,
    items=_items,
    judge=_judge,
    figures=_figures,
    remarks=other_script.remarks,
)
