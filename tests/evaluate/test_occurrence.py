"""`occurrence` counts facts as they stand, and tells what a model knows of them."""

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.planted import Planted, examined
from trainer.errors import SuiteUnavailable
from trainer.evaluate.facts.bound import above, error_bound, miscalibration, samples_term
from trainer.evaluate.facts.mining import mined_facts
from trainer.evaluate.facts.plot import plot_occurrence
from trainer.evaluate.facts.statements import cloze_statement, pattern_statements
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.occurrence_buckets import BUCKETS, shared_out
from trainer.evaluate.respondent import LikelihoodQuery, TextQuery
from trainer.evaluate.suites.occurrence import RIVALS, SUITE

TIMES = (1, 2, 4, 9, 25)
PLACES = [f"{a}{b}{c}" for a in ("Bor", "Kel", "Tam") for b in ("an", "ol", "ir") for c in "etu"]


def word(dice: random.Random) -> str:
    return "".join(dice.choices("abdegiklmnoprstuvz", k=7))


@pytest.fixture(scope="module")
def truth() -> dict[str, tuple[str, int]]:
    """Where people were born, and how often that is said: 12 for each number of times."""
    dice = random.Random(2)
    names = [f"{word(dice).capitalize()} {word(dice).capitalize()}" for _ in range(60)]
    return {name: (dice.choice(PLACES), TIMES[number % 5]) for number, name in enumerate(names)}


@pytest.fixture(scope="module")
def own(truth: dict[str, tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> GivenText:
    """A text that says each as often, now and then in other words, among noise."""
    dice = random.Random(4)
    said = [(name, place) for name, (place, times) in truth.items() for _ in range(times)]
    dice.shuffle(said)
    lines = []
    for name, place in said:
        opening = dice.choice(("", "It is known that ", "As they say, "))
        lines.append(f"{opening}{name} was born in {place}. {word(dice)} {word(dice)}.")
    path = tmp_path_factory.mktemp("occurrence") / "own.txt"
    path.write_text("\n\n".join(lines))
    return GivenText([str(path)])


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path_factory.getbasetemp() / "occurrence_cache"))


def subject_of(truth: dict[str, tuple[str, int]], prompt: str) -> str:
    return next(name for name in truth if name in prompt)


def knowing(truth: dict[str, tuple[str, int]], least: int = 1) -> Planted:
    """Knows what is said `least` times or more; of the rest it is sure of a wrong place."""

    def answer(prompt: str) -> str:
        place, times = truth[subject_of(truth, prompt)]
        return place if times >= least else "Nowhere"

    def likes(query: LikelihoodQuery) -> float:
        return -0.01 if query.text.strip() == answer(query.prompt.text) else -5.0

    def writes(query: TextQuery) -> str:
        return f" {answer(query.prompt.text)}."

    return Planted(writes, likes, confidence=lambda query: 0.9)


def test_facts_are_found_and_counted_as_they_stand(
    truth: dict[str, tuple[str, int]], own: GivenText
) -> None:
    """Would catch sentences counted twice, a name's part taken for it, and a lost fact."""
    found = {fact.subject: fact for fact in mined_facts(own) if fact.kind == "born in"}
    assert {name: (fact.object, fact.occurrences) for name, fact in found.items()} == truth


def test_a_model_that_knows_all_is_told(truth: dict[str, tuple[str, int]], own: GivenText) -> None:
    """Would catch a rival that is right as well, and an answer cut before its last word."""
    figures = examined("occurrence", knowing(truth), own=own).figures
    for bucket in ("1", "2", "3_to_5", "6_to_20", "over_20"):
        assert figures[f"accuracy_{bucket}"].value == figures[f"exact_{bucket}"].value == 1.0
        assert figures[f"accuracy_{bucket}"].items == 12
        assert figures[f"hallucination_{bucket}"].value == 0.0
    assert figures["error"].value == pytest.approx(RIVALS * math.exp(-4.99), rel=0.1)


def test_a_model_that_knows_what_is_said_often_errs_on_the_rest(
    truth: dict[str, tuple[str, int]], own: GivenText, tmp_path: Path
) -> None:
    """Would catch groups that are mixed up, and wrong answers that no confidence goes with."""
    figures = examined("occurrence", knowing(truth, least=4), own=own).figures
    for bucket, known in (("1", 0), ("2", 0), ("3_to_5", 1), ("6_to_20", 1), ("over_20", 1)):
        assert figures[f"exact_{bucket}"].value == known
        assert figures[f"hallucination_{bucket}"].value == 1 - known
    assert plot_occurrence(figures, tmp_path / "facts.png")
    assert (tmp_path / "facts.png").stat().st_size > 5000
    assert not plot_occurrence({}, tmp_path / "none.png")


def test_a_model_that_knows_nothing_is_at_chance(own: GivenText) -> None:
    """Would catch the right answer known by its place among the rivals, or by ties."""
    figures = examined("occurrence", Planted(), own=own).figures
    chance = 1 / (RIVALS + 1)
    assert figures["accuracy"].low <= chance <= figures["accuracy"].high
    assert figures["exact"].value == 0.0
    alike = examined("occurrence", Planted(likes=lambda query: -1.0), own=own).figures
    assert alike["accuracy"].value == pytest.approx(chance)


def test_a_limit_is_shared_out_among_the_groups(own: GivenText) -> None:
    """Would catch a limit that is passed, or that empty groups keep from the others."""
    figures = examined("occurrence", Planted(), own=own, limit=13).figures
    counts = [figures[f"accuracy_{bucket}"].items for bucket in BUCKETS]
    assert sum(counts) == 13
    assert max(counts) - min(counts) <= 1
    assert shared_out(10, [1, 0, 50]) == [1, 0, 9]
    assert shared_out(10, [2, 3]) == [2, 3]


def test_the_bound_is_said_with_its_terms(
    truth: dict[str, tuple[str, int]], own: GivenText
) -> None:
    """Would catch a vacuous bound that passes for a finding, and other terms than the theorem's."""
    result = examined("occurrence", knowing(truth), own=own)
    figures = result.figures
    samples = sum(times for _, times in truth.values())
    assert figures["fact_occurrences"].value == samples
    assert figures["singleton_rate"].value == 12 / samples
    delta = figures["miscalibration"].value
    # Every right answer is above the threshold, and what the model gives to it is known.
    certain = 1 / (1 + RIVALS * math.exp(-4.99))
    assert delta == pytest.approx(1 - certain)
    bound = 12 / samples - 2 / RIVALS - (35 + 6 * math.log(samples)) / math.sqrt(samples) - delta
    assert figures["lower_bound"].value == pytest.approx(bound)
    (remark,) = result.remarks
    assert remark.startswith("lower_bound is vacuous, at 0 or less: of N = 492 occurrences")
    assert f"{samples_term(samples):.2f}" in remark
    telling = figures | {"lower_bound": replace(figures["lower_bound"], value=0.01)}
    assert not SUITE.remarks(telling) and not SUITE.remarks({})  # negative control
    undefined = figures | {"lower_bound": replace(figures["lower_bound"], value=math.nan)}
    assert not SUITE.remarks(undefined)


def test_the_theorem_holds_of_arbitrary_facts() -> None:
    """Would catch a sign or a term: a model that is calibrated by construction, and knows what it
    has seen, errs as often as facts occur once, and never less than the bound says.
    """
    prompts, choices, samples = 600_000, 365, 1_000_000
    weights = np.full(prompts, 0.6 / prompts)
    weights[:1000] += 0.4 / 1000
    counts = np.random.default_rng(0).multinomial(samples, weights)
    # Of what it has not seen it knows nothing: the same probability for every answer.
    right = np.where(counts > 0, 1.0, 1 / choices)
    err = float((weights * (1 - right)).sum())
    rows = [
        above([p, *[(1 - p) / (choices - 1)] * (choices - 1)], choices - 1)
        for p in (1.0, 1 / choices)
    ]
    model = np.where(counts > 0, rows[0][0], rows[1][0])
    text = np.where(counts > 0, rows[0][1], rows[1][1])
    delta = miscalibration(weights, model, text)
    bound = error_bound(float((counts == 1).sum()) / samples, samples, choices - 1, delta)
    assert bound.value < err
    assert bound.value > 0.0
    assert err == pytest.approx(bound.singleton_rate, abs=0.01)
    assert samples_term(10_000) == pytest.approx((35 + 6 * math.log(10_000)) / 100)


def test_patterns_find_what_is_said_and_nothing_else() -> None:
    """Would catch pronouns taken for subjects, and an object that goes on too far."""
    sentences = {
        "The capital of Old Freedonia is Glockenspiel.": "capital|Old Freedonia|Glockenspiel",
        "Ana Belm was born in 1872 in Torvik.": "born in the year|Ana Belm|1872",
        "Lumen was written by Ida Roe and sold well.": "made by|Lumen|Ida Roe",
        "The currency of Velmora is 300 or so.": "property: currency|Velmora|300",
        "Torvik is a small town in the north.": "kind|Torvik|small town",
        "\u00c9lise Dupont was born in \u00c9vreux.": "born in|\u00c9lise Dupont|\u00c9vreux",
        "It is a small town in the north.": "",
        "The boat was born in mind.": "",
    }
    for sentence, wanted in sentences.items():
        found = [f"{one.kind}|{one.subject}|{one.object}" for one in pattern_statements(sentence)]
        assert found == ([wanted] if wanted else []), sentence


def test_clozes_are_of_rare_words_in_any_text() -> None:
    """Would catch a cloze that common words could answer, or whose subject is its object."""
    documents = {"opens": 90, "with": 100, "the": 100, "valve": 3, "gasket": 2, "often": 60}
    sentence = "The valve opens with the old gasket."
    found = cloze_statement(sentence, documents, 100)
    assert found is not None
    assert (found.kind, found.subject, found.object) == ("cloze: word", "valve", "gasket")
    assert found.prefix == "The valve opens with the old"
    assert cloze_statement("The valve opens with the often.", documents, 100) is None
    assert cloze_statement("The gasket opens with the gasket.", documents, 100) is None
    assert cloze_statement("Opens with the valve 37.", documents, 100) is None


def test_text_without_facts_says_so(tmp_path: Path) -> None:
    """Would catch an empty suite that passes for a good one."""
    with pytest.raises(SuiteUnavailable, match="--corpus or --text"):
        examined("occurrence", Planted())
    (tmp_path / "own.txt").write_text("Nothing is here. Nothing is there.")
    with pytest.raises(SuiteUnavailable, match="no fact with 15 others"):
        examined("occurrence", Planted(), own=GivenText([str(tmp_path / "own.txt")]))
