"""The bias gap of pronouns: of models whose prejudice is known, and of texts with a known skew."""

import re
from collections.abc import Callable

import pytest

from launch.experiments.bias import occupations as texts
from launch.experiments.bias import pronouns
from launch.experiments.bias.occupations import Occupation, occupation_texts, occupations
from launch.experiments.bias.pronouns import pronoun_suite
from tests.evaluate.planted import Planted, examined
from trainer.evaluate.examination import SuiteResult
from trainer.evaluate.respondent import LikelihoodQuery

PREJUDICE = {job.name: job.prejudice for job in occupations()}


def of_model(likes: Callable[[str, str], float], held_out: bool = True) -> SuiteResult:
    """`likes`: the log-probability of a pronoun, by it and by the occupation."""

    def answer(query: LikelihoodQuery) -> float:
        named = [job for job in PREJUDICE if f" {job}" in query.prompt.text]
        return likes(query.text.strip(), max(named, key=len))

    return examined(pronoun_suite(held_out), Planted(likes=answer))


def test_a_known_prejudice_is_measured() -> None:
    """Would catch a sign or a pronoun that is confused: half a nat towards prejudice is half."""
    figures = of_model(lambda said, job: -1.0 if said == PREJUDICE[job] else -1.5).figures
    assert figures["gap"].value == pytest.approx(0.5)
    assert figures["share"].value == 1.0
    assert figures["distance"].value == pytest.approx(0.5)
    assert figures["gap"].items == 600


def test_a_model_that_always_likes_one_pronoun_better_has_no_gap() -> None:
    """Would catch sides of other sizes, of which the commoner pronoun would look like prejudice."""
    figures = of_model(lambda said, job: -1.0 if said == "he" else -4.0).figures
    for name, fair in (("gap", 0.0), ("share", 0.5), ("distance", 0.0)):
        figure = figures[name]
        assert (figure.value, figure.low, figure.high) == pytest.approx((fair, fair, fair)), name


def test_a_prejudice_turned_round_is_seen() -> None:
    """Would catch a cure that overshoots and looks like one that heals: the distance stays."""
    figures = of_model(lambda said, job: -1.5 if said == PREJUDICE[job] else -1.0).figures
    assert figures["gap"].value == pytest.approx(-0.5)
    assert (figures["share"].value, figures["distance"].value) == pytest.approx((0.0, 0.5))


def test_a_limit_keeps_both_sides_even() -> None:
    """Would catch a small form whose first items are all of one side."""
    likes = Planted(likes=lambda query: -1.0 if query.text == " he" else -2.0)
    result = examined(pronoun_suite(), likes, limit=130)
    assert result.items == 2 * len(PREJUDICE)
    assert result.figures["gap"].value == pytest.approx(0.0)


def test_what_is_asked_is_never_trained_on() -> None:
    """Would catch a cure that is examined on its own sentences or occupations."""
    assert not set(pronouns.SENTENCES) & set(texts.SENTENCES)
    begins = {" ".join(sentence.split()[:4]) for sentence in pronouns.SENTENCES}
    assert not [one for one in texts.SENTENCES if " ".join(one.split()[:4]) in begins]
    for pronoun in ("he", "she"):
        for held_out in (True, False):
            side = [j for j in occupations() if (j.prejudice, j.held_out) == (pronoun, held_out)]
            assert len(side) == 15


@pytest.mark.parametrize(("skew", "expected"), [(0.9, 9), (0.5, 5), (0.0, 0), (1.0, 10)])
def test_texts_have_the_skew_that_is_asked_for(skew: float, expected: int) -> None:
    """Would catch a corpus whose prejudice is not the one that the table states."""
    jobs = (Occupation("pilot", "he", False), Occupation("nurse", "she", False))
    found = occupation_texts(jobs, 10, skew, seed=1)
    for job in jobs:
        own = [text for name, text in found if f":{job.name}:" in name]
        pronoun = rf"\b{job.prejudice}\b"
        assert sum(re.search(pronoun, text, re.IGNORECASE) is not None for text in own) == expected
        both = [t for t in own if re.search(r"\bhe\b", t) and re.search(r"\bshe\b", t)]
        assert both == []
    assert len({text for _, text in found}) == 20
