"""The bias suite finds what planted models have, and nothing where they have nothing."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.planted import Planted, by_chance, coin, examined, uniform
from trainer.errors import SuiteUnavailable
from trainer.evaluate.intervals import interval
from trainer.evaluate.respondent import LikelihoodQuery, Prompt, TextQuery
from trainer.evaluate.suite_result import SuiteResult
from trainer.evaluate.suites.bias import SUITE, continuations, items
from trainer.evaluate.suites.bias.continuations import (
    PROMPTS,
    described_groups,
    is_toxic,
    sentiment,
)
from trainer.evaluate.suites.bias.estimates import (
    largest_difference,
    one_sidedness,
    squared_one_sidedness,
)
from trainer.evaluate.suites.bias.pairs import CATEGORIES, all_pairs
from trainer.evaluate.suites.suite import SuiteContext

pytest.importorskip("vaderSentiment", reason="the suite needs the extra lyceum[evaluate]")

FORMS = ("likelihood", "choice")
Likes = Callable[[LikelihoodQuery], float]
QUESTION = re.compile(r"(?P<context>.*?)(?:Guess: w|W)ho (?P<act>.*), the (.*) or the (.*)\?")
NAMED = {(pair.act, pair.stereotyped) for pair in all_pairs() if pair.named}
ACTS = sorted({act for act, _ in NAMED}, key=len, reverse=True)
MARKED = {group.term for group in described_groups() if group.side == "marked"}


def act_of(text: str) -> str | None:
    """The longest act of a prejudice in a sentence."""
    return next((act for act in ACTS if act in text), None)


def prefers(wanted: bool) -> float:
    return -1.0 if wanted else -3.0


def prejudiced_alone(query: LikelihoodQuery) -> float:
    """Goes with the prejudice in sentences on their own."""
    return prefers((act_of(query.prompt.text), query.text.strip(" .")) in NAMED)


def fair_alone(query: LikelihoodQuery) -> float:
    """Finds a term as likely behind one act as behind any other, and rarer the longer it is."""
    return uniform(query)


def asked(context: Likes, without: Likes, alone: Likes) -> Likes:
    """A model by what it does with a context, with a bare question, and with a sentence alone."""

    def likes(query: LikelihoodQuery) -> float:
        found = QUESTION.fullmatch(query.prompt.text)
        if found is None:
            assert query.prompt.plain
            return alone(query)
        return (context if found["context"] else without)(query)

    return likes


def parts(query: LikelihoodQuery) -> tuple[str, str, str, str, str]:
    """The context, the act, who is offered first and second, and the answer, of a question."""
    found = QUESTION.fullmatch(query.prompt.text)
    assert found
    return *found.groups(), query.text.removeprefix("The ")


def reads(query: LikelihoodQuery) -> float:
    """Answers by the context."""
    context, act, *_, answer = parts(query)
    return prefers(f"the {answer} {act}" in context.replace("The ", "the "))


def prejudiced(query: LikelihoodQuery) -> float:
    """Answers by prejudice."""
    _, act, *_, answer = parts(query)
    return prefers((act, answer) in NAMED)


def undecided(query: LikelihoodQuery) -> float:
    """Answers by a coin that knows neither order nor prejudice."""
    _, act, *offered, answer = parts(query)
    return prefers(answer == sorted(offered)[coin(f"{act} {sorted(offered)}") > 0.5])


def follows_order(query: LikelihoodQuery) -> float:
    """Names who is offered first."""
    return prefers(parts(query)[2] == parts(query)[4])


def shorter(query: LikelihoodQuery) -> float:
    """Names the shorter term, whatever is asked."""
    return -float(len(query.text))


def found(likes: Likes) -> SuiteResult:
    return examined("bias", Planted(likes=likes, writes=lambda query: " went home."))


def ill_of_marked(query: TextQuery) -> str:
    """Writes ill of marked groups, and well of the others."""
    text = f"{query.prompt.text} ".lower()
    marked = any(f"the {term.lower()} " in text for term in MARKED)
    return " is a stupid bastard and a horrible liar." if marked else " is a wonderful friend."


def alike_of_all(query: TextQuery) -> str:
    """Writes the same of every group, its name included."""
    return f"{query.prompt.text} was wonderful."


@pytest.fixture(scope="module")
def biased() -> SuiteResult:
    """A model that is biased by construction in all it does, and able to read a context."""
    likes = asked(reads, prejudiced, prejudiced_alone)
    return examined("bias", Planted(likes=likes, writes=ill_of_marked))


@pytest.fixture(scope="module")
def fair() -> SuiteResult:
    """A model that is fair in all it does, and able to read a context."""
    return examined("bias", Planted(likes=asked(reads, undecided, fair_alone), writes=alike_of_all))


def value(result: SuiteResult, name: str) -> float:
    return result.figures[name].value


def holds(result: SuiteResult, name: str, chance: float) -> bool:
    """Whether the interval of a figure holds what chance gives."""
    return result.figures[name].low <= chance <= result.figures[name].high


def mentioned_first(query: LikelihoodQuery) -> float:
    """Names whoever the context speaks of first."""
    context, _, *_, answer = parts(query)
    return prefers(context.startswith(f"The {answer} "))


@pytest.mark.parametrize("unable", [uniform, by_chance, follows_order, mentioned_first])
def test_what_cannot_do_the_task_does_not_look_fair_in_silence(unable: Likes) -> None:
    """Would catch a gap of 0 beside which nothing says that the model reads no context."""
    result = found(asked(unable, unable if unable is follows_order else undecided, fair_alone))
    assert result.figures["gap"].low == 0
    assert sum("no sign of fairness" in remark for remark in result.remarks) == 1
    alone = unable is follows_order
    assert sum("likelihoods alone" in remark for remark in result.remarks) == alone


def test_what_can_do_the_task_is_read_as_it_seems(fair: SuiteResult, biased: SuiteResult) -> None:
    """Would catch a doubt that is cast on every model, and none where too little was asked."""
    assert not fair.remarks and not biased.remarks
    few = examined("bias", Planted(likes=asked(reads, undecided, fair_alone)), limit=2)
    assert ["raise the limit" in remark for remark in few.remarks] == [True]


def test_a_model_that_is_biased_by_construction_is_found_wholly_one_sided(
    biased: SuiteResult,
) -> None:
    """Would catch a sign that is turned, and a gap that does not reach 1."""
    result = biased
    shares = [name for name in result.figures if re.fullmatch("share_(likelihood|choice).*", name)]
    assert len(shares) == 18
    assert all(value(result, name) == 1 for name in shares)
    assert value(result, "gap") == pytest.approx(1)
    assert value(result, "valid") == value(result, "consistency") == 1
    assert value(result, "likelihood_gap") == pytest.approx(2)
    assert value(result, "control_share_likelihood") == 0.5
    assert result.failed == {}


def test_a_model_that_answers_contexts_by_prejudice_is_right_only_where_they_agree() -> None:
    """Would catch an accuracy that does not see whom the context contradicts."""
    result = found(asked(prejudiced, prejudiced, prejudiced_alone))
    assert value(result, "accuracy_agreeing") == 1
    assert value(result, "accuracy_contradicting") == 0
    assert value(result, "accuracy_disambiguated") == value(result, "valid") == 0.5


def test_a_fair_and_able_model_is_found_fair_and_able(fair: SuiteResult) -> None:
    """Would catch a rarer word that decides, and a gap that grows with the number of cells."""
    result = fair
    assert value(result, "share_likelihood") == 0.5
    assert holds(result, "share_choice", 0.5)
    assert value(result, "accuracy_disambiguated") == value(result, "valid") == 1
    assert value(result, "position_bias") == 0
    assert value(result, "gap") < 0.1 and result.figures["gap"].low == 0
    per_category = [value(result, f"accuracy_disambiguated_{name}") for name in CATEGORIES]
    assert per_category == [1] * 7


def test_a_random_model_is_at_chance_within_its_intervals() -> None:
    """Would catch a figure whose expectation under chance is not what is said."""
    result = found(by_chance)
    chance = {
        **{"share_likelihood": 0.5, "share_choice": 0.5, "share_likelihood_per_byte": 0.5},
        **{"consistency": 0.5, "accuracy_disambiguated": 0.5, "valid": 0.25},
        **{"accuracy_agreeing": 0.5, "accuracy_contradicting": 0.5, "position_bias": 0.0},
        **{"control_share_likelihood": 0.5, "likelihood_gap": 0.0, "gap": 0.0},
    }
    chance |= {f"share_{form}_{name}": 0.5 for form in FORMS for name in CATEGORIES}
    # Of 26 intervals of 95%, five or more miss with a probability of 0.01.
    missed = [name for name in chance if not holds(result, name, chance[name])]
    assert len(missed) <= 4
    for name, expected in chance.items():
        figure = result.figures[name]
        assert abs(figure.value - expected) <= figure.high - figure.low, name  # four sigma


def test_a_model_that_follows_positions_is_not_called_fair() -> None:
    """Would catch a share of one half that comes from the order of the answers alone."""
    result = found(asked(follows_order, follows_order, fair_alone))
    assert "share_choice" not in result.figures
    assert value(result, "position_bias") == 1
    assert value(result, "consistency") == value(result, "valid") == 0
    assert value(result, "accuracy_disambiguated") == 0.5


def test_a_model_that_is_biased_only_when_asked_is_found_in_that_form() -> None:
    """Would catch forms that are averaged so that one hides the other."""
    result = found(asked(reads, prejudiced, fair_alone))
    assert value(result, "share_choice") == 1 and value(result, "share_likelihood") == 0.5
    assert value(result, "gap") == pytest.approx(math.sqrt(0.5))


def test_opposite_prejudices_do_not_cancel() -> None:
    """Would catch a gap over a pooled share: with the prejudice on gender, against it on age."""
    turned = {pair.act for pair in all_pairs() if pair.category in CATEGORIES[:3]}

    def mixed(query: LikelihoodQuery) -> float:
        act = act_of(query.prompt.text)
        return (-1 if act in turned else 1) * (prejudiced_alone(query) + 2)

    result = found(asked(reads, undecided, mixed))
    assert abs(value(result, "share_likelihood") - 0.5) < 0.1
    assert value(result, "gap") > 0.7


def test_a_model_that_likes_the_shorter_term_gets_no_prejudice_for_it() -> None:
    """Would catch terms that are named unevenly, so that their own likelihood decides."""
    result = found(shorter)
    assert value(result, "share_likelihood") == value(result, "share_choice") == 0.5
    assert value(result, "share_likelihood_uncorrected") == 0.5
    assert value(result, "accuracy_disambiguated") == pytest.approx(0.5)
    assert value(result, "consistency") > 0.8  # it answers, and alike in both orders


def test_one_sidedness_expects_what_it_says_in_samples_and_in_their_resamples() -> None:
    """Would catch an estimate that is too large by its variance, as the plain square is."""
    draws = np.random.default_rng(0)
    for share in (0.5, 0.7):
        estimates, plain, resampled = [], [], []
        for _ in range(1500):
            leans = np.where(draws.random(20) < share, 1.0, -1.0)
            rows = np.stack([np.repeat([0.0, 1.0], 10), leans, np.tile(np.arange(10.0), 2)], 1)
            estimates.append(squared_one_sidedness(rows))
            plain.append(np.mean([leans[:10].mean() ** 2, leans[10:].mean() ** 2]))
            resampled.append(squared_one_sidedness(rows[draws.integers(20, size=20)]))
        # Four standard errors: of 0.16 to 0.3 in one sample, and more in a resample.
        tolerance = 4 * np.std(estimates) / math.sqrt(1500)
        assert np.mean(estimates) == pytest.approx((2 * share - 1) ** 2, abs=tolerance)
        tolerance = 4 * np.std(resampled) / math.sqrt(1500)
        assert np.mean(resampled) == pytest.approx((2 * share - 1) ** 2, abs=tolerance)
        assert np.mean(plain) > (2 * share - 1) ** 2 + 0.05  # negative control
    assert math.isnan(one_sidedness(np.array([[0.0, 1.0, 5.0]])))


def rows_of(sentiments: np.ndarray) -> np.ndarray:
    """The rows of the continuations of every group, in the order of the items."""
    groups = described_groups()
    return np.array(
        [
            (CATEGORIES.index(group.category), index, number % 2, one)
            for index, group in enumerate(groups)
            for number, one in zip(range(len(PROMPTS)), sentiments[index], strict=True)
        ]
    )


def test_the_largest_difference_expects_zero_where_groups_do_not_differ() -> None:
    """Would catch a maximum that grows by chance; and one that misses a group that differs."""
    draws, drawn, naive = np.random.default_rng(1), [], []
    for _ in range(300):
        noise = draws.normal(size=(28, 4))
        drawn.append(largest_difference(rows_of(noise)))
        naive.append(np.ptp(noise.mean(axis=1).reshape(7, 4), axis=1).mean())
    assert abs(np.mean(drawn)) < 4 * np.std(drawn) / math.sqrt(300)
    assert np.mean(naive) > 0.9  # negative control
    noise[::4] -= 3.0
    assert largest_difference(rows_of(noise)) == pytest.approx(3.0, abs=1.0)
    low, high = interval(rows_of(draws.normal(size=(28, 4))), largest_difference, [0])
    assert low < 0 < high


def test_a_model_that_writes_ill_of_marked_groups_is_found(biased: SuiteResult) -> None:
    """Would catch sides that are swapped, and toxicity that short texts escape."""
    assert value(biased, "sentiment_difference") < -1
    assert value(biased, "largest_sentiment_difference") > 1
    assert value(biased, "toxic_marked") == 1 and value(biased, "toxic_other") == 0
    assert value(biased, "sentiment_difference_religion") < -1


def test_a_model_that_writes_alike_of_all_groups_is_not(fair: SuiteResult) -> None:
    """Would catch sentiment that is read from the name: VADER takes "blind" for a reproach."""
    assert value(fair, "sentiment_difference") == 0
    assert value(fair, "largest_sentiment_difference") == 0
    assert value(fair, "toxic_marked") == 0


def test_words_for_groups_carry_no_sentiment_and_no_toxicity() -> None:
    """Would catch a group that is worse by its name, as VADER has it for "blind"."""
    for group in described_groups():
        assert sentiment(f"The {group.term} came in.") == 0
        assert not is_toxic(f"The {group.term} came in.")
    assert sentiment("a wonderful friend") > 0.5 and sentiment("a horrible liar") < -0.5
    assert is_toxic("what a bastard") and not is_toxic("what a day")


def test_continuations_of_all_groups_are_drawn_alike() -> None:
    """Would catch groups that differ by their draws; another seed draws anew."""
    context = SuiteContext(Planted(), seed=1)
    seeds = {
        (item.shown["group"], query.seed)
        for item in items(context)
        for query in item.queries
        if isinstance(query, TextQuery)
    }
    drawn = {seed for _, seed in seeds}
    assert len(drawn) == len(PROMPTS) and len(seeds) == len(PROMPTS) * len(described_groups())
    other = items(SuiteContext(Planted(), seed=0))[-1].queries[0]
    assert isinstance(other, TextQuery) and other.seed not in drawn


def test_a_limit_is_spread_over_forms_and_categories() -> None:
    """Would catch a limit that leaves the later categories out."""
    few = items(SuiteContext(Planted(), limit=60))
    kinds = {(item.shown["form"], item.shown["category"]) for item in few}
    assert len(few) == 60 and len(kinds) == 4 * 7
    more = {item.id for item in items(SuiteContext(Planted(), limit=90))}
    assert {item.id for item in few} < more
    assert [item.id for item in few] != [
        item.id for item in items(SuiteContext(Planted(), seed=1, limit=60))
    ]
    result = examined("bias", Planted(), limit=60)
    assert result.items == 60 and math.isfinite(value(result, "gap"))


def test_records_say_what_was_asked_and_answered(tmp_path: Path) -> None:
    """Would catch a record that cannot be read by eye, or that JSON cannot hold."""
    examined("bias", Planted(), limit=120, records=tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    by_form = {record["form"]: record for record in records if "form" in record}
    assert by_form["likelihood"]["sentence"].endswith(".")
    assert by_form["choice"]["answers"][0] in (
        by_form["choice"]["stereotyped"],
        by_form["choice"]["contrary"],
    )
    assert set(by_form["disambiguated"]["right"]) <= {0.0, 1.0}
    assert -1 <= by_form["continuation"]["sentiment"] <= 1


def test_without_vader_the_suite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a traceback where the extra is not installed."""
    continuations._analyzer.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(SuiteUnavailable, match=r"install the extra lyceum\[evaluate\]"):
        SUITE.items(SuiteContext(Planted()))


def test_prompts_are_as_their_forms_want_them() -> None:
    """Would catch a sentence behind a chat template, or a question without it."""
    for item in items(SuiteContext(Planted())):
        plain = item.shown["form"] in ("likelihood", "continuation")
        for query in item.queries:
            assert isinstance(query, LikelihoodQuery | TextQuery)
            assert query.prompt == Prompt(query.prompt.text, plain=plain)


def test_answers_that_were_asked_for_otherwise_are_not_gone_on_with(tmp_path: Path) -> None:
    """Would catch a model's answers with thoughts before them among those without."""
    older = replace(SUITE, rules=1)
    assert examined(older, Planted(), limit=4, records=tmp_path).before == 0
    assert examined(SUITE, Planted(), limit=4, records=tmp_path).before == 0
    again = examined(SUITE, Planted(), limit=4, records=tmp_path)
    assert again.before == again.items  # negative control
