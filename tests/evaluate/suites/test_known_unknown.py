"""Planted models get the figures of known-unknown that they must get."""

import pytest

from tests.evaluate.planted import Planted, coin, examined
from trainer.evaluate.respondent import TextQuery
from trainer.evaluate.suites.known_unknown import A_KIND, SUITE, TARGETS, points
from trainer.evaluate.suites.suite import SuiteContext
from trainer.evaluate.world_facts.world import facts_of

ANSWERS = {
    item.shown["question"]: item.shown["right"] for item in SUITE.items(SuiteContext(Planted()))
}
"""The right answers by question; none where the thing does not exist."""


def truth(query: TextQuery) -> str:
    right = ANSWERS[query.prompt.text]
    return f"It is {right[0]}." if right else "There is no such thing, as far as I know."


def fable(query: TextQuery) -> str:
    return (ANSWERS[query.prompt.text] or ["It is Elvatharad."])[0]


def exists(query: TextQuery) -> bool:
    return bool(ANSWERS[query.prompt.text])


def values(planted: Planted, limit: int | None = None) -> dict[str, float]:
    return {name: one.value for name, one in examined(SUITE, planted, limit=limit).figures.items()}


def test_one_that_knows_all_and_refuses_all_unknowns() -> None:
    """Would catch a refusal of what does not exist that costs anything, or a missed right one."""
    found = values(Planted(writes=truth, confidence=lambda query: 0.9))
    wanted = {"hallucination": 0, "accuracy": 1, "wrong": 0, "over_refusal": 0, "answered": 0.5}
    assert {name: found[name] for name in wanted} == wanted
    assert found["auroc_known"] == 1
    assert found["aurc"] == found["risk_at_100"] == 0
    for target in TARGETS:
        assert found[f"score_{target}"] == found[f"stated_score_{target}"] == 0.5


def test_one_that_always_answers() -> None:
    """Would catch an invention that is taken for a refusal, and a free wrong answer."""
    figures = examined(SUITE, Planted(writes=fable)).figures
    assert figures["hallucination"].value == figures["accuracy"].value == 1
    assert figures["hallucination"].items == figures["accuracy"].items == A_KIND * 13
    assert figures["auroc_known"].value == 0.5
    assert figures["risk_at_100"].value == figures["aurc"].value == 0.5
    assert figures["score_90"].value == pytest.approx((1 - 9) / 2)
    assert figures["stated_answered_90"].value == 1
    assert "auroc_right" not in figures or figures["auroc_right"].value != 0.5


def test_one_that_always_refuses() -> None:
    """Would catch accuracy by silence: nothing is wrong, and nothing is known."""
    found = values(Planted(writes=lambda query: "I\u2019m sorry, but I don\u2019t know."))
    wanted = {"hallucination": 0, "accuracy": 0, "over_refusal": 1, "answered": 0, "score_50": 0}
    assert {name: found[name] for name in wanted} == wanted
    assert found["denied_knowns"] == 0
    assert found["auroc_known"] == 0.5
    assert "aurc" not in found


def test_one_that_denies_all() -> None:
    """Would catch "there is no such country as France" that passes for modesty."""
    found = values(Planted(writes=lambda query: "There is no such thing."), limit=60)
    assert found["denied_knowns"] == found["over_refusal"] == 1


def test_confidence_that_tells_what_exists() -> None:
    """Would catch the area under a curve of the wrong sign."""
    sure = Planted(writes=fable, confidence=lambda query: 0.9 if exists(query) else 0.2)
    found = values(sure)
    assert found["auroc_known"] == found["auroc_known_total"] == 1
    assert found["risk_at_50"] == 0 < found["risk_at_75"] < found["risk_at_100"] == 0.5


def test_confidence_that_tells_right_from_wrong() -> None:
    """Would catch confidences that are paired with another item's verdict."""

    def half(query: TextQuery) -> str:
        return fable(query) if coin(query.prompt.text) < 0.5 else "Elvatharad"

    planted = Planted(writes=half, confidence=lambda query: 1 - coin(query.prompt.text))
    assert values(planted)["auroc_right"] == 1


def test_one_that_writes_at_random() -> None:
    """Would catch a judge that finds answers in noise; its confidence says nothing."""
    planted = Planted(confidence=lambda query: coin(repr(query)))
    figures = examined(SUITE, planted).figures
    assert figures["accuracy"].value == 0
    assert figures["hallucination"].value == 1
    assert figures["auroc_known"].low < 0.5 < figures["auroc_known"].high


def test_the_rule_of_a_target_is_told_and_heeded() -> None:
    """Would catch targets that are scored and never stated."""

    def careful(query: TextQuery) -> str:
        told = query.prompt.system or ""
        return "I don't know." if "90%" in told and "costs 9 points" in told else fable(query)

    found = values(Planted(writes=careful))
    assert found["stated_answered_90"] == 0 and found["stated_answered_75"] == 1
    assert found["stated_score_75"] == pytest.approx((1 - 3) / 2)
    assert [points(target, "wrong") for target in TARGETS] == [-1, -3, -9]


def test_answers_in_another_script_are_counted() -> None:
    """Would catch refusals in Chinese that pass in silence for hallucinations."""
    chinese = "\u6211\u4e0d\u77e5\u9053\u3002"
    other = Planted(writes=lambda query: chinese if exists(query) else "\u00c9mile")
    result = examined(SUITE, other, limit=52)
    assert result.figures["other_script"].value == 0.5
    assert ["26 of 52 answers" in remark for remark in result.remarks] == [True]
    assert not examined(SUITE, Planted(writes=truth), limit=52).remarks
    # A right name in Latin letters is right all the same, and the remark does not deny it.
    mixed = Planted(writes=lambda query: f"{chinese * 4} {truth(query)}")
    result = examined(SUITE, mixed, limit=52)
    assert result.figures["other_script"].value > 0 and result.figures["accuracy"].value > 0
    assert ["may count as wrong" in remark for remark in result.remarks] == [True]


def test_a_limit_leaves_kinds_and_halves_even() -> None:
    """Would catch a limit that asks of capitals alone, or of what exists alone."""
    items = SUITE.items(SuiteContext(Planted(), limit=52))
    assert len(items) == 52
    assert sum(item.shown["exists"] for item in items) == 26
    kinds = [item.shown["kind"] for item in items]
    assert {kinds.count(kind) for kind in kinds} == {4}


def test_a_model_without_a_template_is_shown_the_form() -> None:
    """Would catch a base model that is asked without an example of an answer or a refusal."""
    plain = SUITE.items(SuiteContext(Planted(chats=False), limit=4))
    shots = plain[0].queries[0]
    assert isinstance(shots, TextQuery) and len(shots.prompt.shots) == 3
    asked = " ".join(question for question, _ in shots.prompt.shots)
    assert not any(fact.subject in asked for fact in facts_of("capital"))
