"""Planted models get the figures of calibration that they must get."""

import math
from collections.abc import Callable

import pytest

from tests.evaluate.planted import Planted, coin, examined
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.respondent import LikelihoodQuery, TextQuery
from trainer.evaluate.suites.calibration import OPTIONS, SUITE
from trainer.evaluate.suites.suite import SuiteContext
from trainer.evaluate.world_facts.world import KINDS, facts_of

ITEMS = SUITE.items(SuiteContext(Planted()))
CHOICES = {item.shown["question"]: item.shown for item in ITEMS if item.shown["part"] == "choice"}
FREE = {
    item.shown["question"]: item.shown["right"][0] for item in ITEMS if item.shown["part"] == "free"
}


def sureness(text: str) -> float:
    """What a model gives its choice of four: from a quarter to all, by chance."""
    return 1 / OPTIONS + (1 - 1 / OPTIONS) * coin(f"sure {text}")


def likes(share_right: float) -> Callable[[LikelihoodQuery], float]:
    """Log-probabilities by which the choice is right with `sureness` times `share_right`."""

    def of(query: LikelihoodQuery) -> float:
        shown, sure = CHOICES[query.prompt.text], sureness(query.prompt.text)
        right = shown["options"][shown["right"]]
        true = coin(f"right {query.prompt.text}") < sure * share_right
        chosen = right if true else next(one for one in shown["options"] if one != right)
        return math.log(sure if query.text == chosen else (1 - sure) / (OPTIONS - 1))

    return of


def writes(share_right: float) -> Callable[[TextQuery], str]:
    def of(query: TextQuery) -> str:
        text = query.prompt.text
        right = coin(f"right {text}") < sureness(text) * share_right
        return FREE[text] if right else "Elvatharad"

    return of


def planted(share_right: float) -> Planted:
    return Planted(
        writes=writes(share_right),
        likes=likes(share_right),
        confidence=lambda query: sureness(query.prompt.text),
    )


def test_one_that_is_calibrated_by_construction() -> None:
    """Would catch a confidence that is not the model's, or an error that is never near 0."""
    figures = examined(SUITE, planted(1.0)).figures
    for part in ("", "free_"):
        assert figures[f"{part}ece_excess"].low < 0.02
        assert abs(figures[f"{part}ece_excess"].value) < 0.06
        assert figures[f"{part}overconfidence"].low < 0 < figures[f"{part}overconfidence"].high
    assert figures["ece"].items == 20 * len(KINDS)
    assert figures["free_answered"].value == 1


def test_one_that_is_overconfident() -> None:
    """Would catch an error that a model wrong twice as often as it says does not get."""
    figures = examined(SUITE, planted(0.5)).figures
    for part in ("", "free_"):
        assert figures[f"{part}ece_excess"].low > 0.1
        assert figures[f"{part}overconfidence"].low > 0.15
        assert figures[f"{part}ece"].value == pytest.approx(
            figures[f"{part}overconfidence"].value, abs=0.05
        )


def test_one_that_chooses_at_random_is_at_chance() -> None:
    """Would catch options in an order, or of a form, that gives the right one away."""
    figures = examined(SUITE, Planted()).figures
    assert figures["accuracy"].low < 1 / OPTIONS < figures["accuracy"].high
    assert figures["free_accuracy"].value == 0


def test_one_that_likes_short_or_first_options_is_at_chance() -> None:
    """Would catch right answers that stand first, or are the shortest, more often than others."""
    short = examined(SUITE, Planted(likes=lambda query: -float(len(query.text)))).figures
    assert short["accuracy"].low < 1 / OPTIONS < short["accuracy"].high

    def first(query: LikelihoodQuery) -> float:
        return -float(CHOICES[query.prompt.text]["options"].index(query.text))

    figures = examined(SUITE, Planted(likes=first)).figures
    assert figures["accuracy"].low < 1 / OPTIONS < figures["accuracy"].high


def test_one_that_knows_and_one_that_refuses() -> None:
    """Would catch a right choice counted as wrong, and refusals counted as calibrated answers."""

    def knows(query: LikelihoodQuery) -> float:
        shown = CHOICES[query.prompt.text]
        return 0.0 if query.text == shown["options"][shown["right"]] else -50.0

    all_known = Planted(likes=knows, writes=lambda query: FREE[query.prompt.text])
    figures = examined(SUITE, all_known).figures
    assert figures["accuracy"].value == figures["free_accuracy"].value == 1
    assert figures["ece"].value == figures["brier"].value == pytest.approx(0)
    assert figures["free_ece"].value == pytest.approx(0.5)

    refuses = examined(SUITE, Planted(writes=lambda query: "I don't know.")).figures
    assert refuses["free_answered"].value == 0
    assert "free_ece" not in refuses


def test_wrong_options_are_wrong() -> None:
    """Would catch two options of one meaning, or a rival that is another name of the answer."""
    facts = {(kind, fact.right[0]): fact for kind in KINDS for fact in facts_of(kind)}
    for item in ITEMS:
        if item.shown["part"] == "choice":
            options = item.shown["options"]
            assert len(set(options)) == OPTIONS
            _, _, kind, _, _ = item.id.split("/")
            right = facts[kind, options[item.shown["right"]]].right
            if KINDS[kind].form != "sign":
                names = {plain_words(name) for name in right}
                assert sum(plain_words(option) in names for option in options) == 1, item.id
