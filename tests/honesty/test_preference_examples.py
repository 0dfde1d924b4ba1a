"""Preferences hold the model's own texts and refusals, each on the side where it belongs."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.honesty.asked import NO_IDEA, RIGHT, WRONG, mixed, question, sampled
from trainer.conversations.pairs import judged_of, pair_of
from trainer.conversations.records import Example
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.honesty.preference_examples import factuality_examples
from trainer.questions.samples import AnswerSample, SampledQuestion
from trainer.questions.verifiers import verify
from trainer.recipe.own_samples import FactualitySection

SECTION = FactualitySection(questions=("q.jsonl",))
PLACE = RecordLocation("own.jsonl", "line", 1)
SIDES = {
    "right over wrong": ("right", "wrong"),
    "right over refusal": ("right", "declined"),
    "refusal over wrong": ("declined", "wrong"),
    "refusal over invented": ("declined", "wrong"),
}


def sides(example: dict[str, Any]) -> tuple[str, str]:
    return example["chosen"][0]["content"], example["rejected"][0]["content"]


@settings(max_examples=10, deadline=None)
@given(
    numbers=st.tuples(*(st.integers(0, 7) for _ in range(3))),
    seed=st.integers(0, 3),
)
def test_right_beats_a_refusal_beats_wrong_in_own_texts_alone(
    numbers: tuple[int, int, int], seed: int
) -> None:
    """Would catch a side turned round, the key taught, one side that always wins, and order."""
    asked = mixed(*numbers)
    examples, counts = factuality_examples(asked, SECTION, seed, judged=False)
    shuffled = random.Random(seed).sample(asked, len(asked))
    assert factuality_examples(shuffled, SECTION, seed, judged=False) == (examples, counts)
    by_text = {one.question.text: one for one in asked}
    found: Counter[str] = Counter()
    for example in examples:
        source = by_text[example["prompt"][-1]["content"]]
        kind = example["about"]["origin"]
        found[kind] += 1
        for text, outcome in zip(sides(example), SIDES[kind], strict=True):
            assert verify(source.question, text).outcome == outcome
            own = any(one.text.startswith(text) for one in source.samples)
            assert own or outcome == "declined"
        assert pair_of(Example(example, PLACE)).chosen.conversation.unread == ()
    assert found == +Counter(counts.pairs)
    won = found["refusal over wrong"] + found["refusal over invented"]
    assert won == found["right over refusal"]
    assert len({str(one) for one in examples}) == len(examples) == counts.examples


def test_a_question_that_is_known_in_part_gives_both_steps() -> None:
    """Would catch a refusal preferred to what is right, where a model is seldom right."""
    seldom = sampled(question(1), RIGHT, WRONG, WRONG, WRONG)
    others = [sampled(question(number), RIGHT, WRONG) for number in (2, 3)]
    examples, _ = factuality_examples([seldom, *others], SECTION, 0, judged=False)
    kinds = [one["about"]["origin"] for one in examples if one["about"]["id"] == "q1"]
    assert sorted(kinds) == ["refusal over wrong", "right over wrong"]


def test_what_is_only_got_wrong_is_left_alone_where_the_recipe_says_so() -> None:
    """Would catch a refusal taught where there is an answer, and pairs left out in silence."""
    leaving = SECTION.model_copy(update={"wrong": "leave"})
    asked = [
        sampled(question(1), RIGHT),
        sampled(question(2), WRONG),
        sampled(question(3, False), WRONG),
        sampled(question(4), RIGHT, WRONG, WRONG, WRONG),
    ]
    examples, counts = factuality_examples(asked, leaving, 0, judged=False)
    origins = {one["about"]["id"]: one["about"]["origin"] for one in examples}
    assert origins == {
        "q1": "right over refusal",
        "q3": "refusal over invented",
        "q4": "right over wrong",
    }
    assert "2 refusal over wrong, as wrong=leave" in str(counts)
    assert counts.without_pair == 0
    examples, counts = factuality_examples(asked[:2], leaving, 0, judged=False)
    assert examples == [] and "factuality.wrong=decline" in counts.why_none
    examples, counts = factuality_examples(asked[1:2], leaving, 0, judged=False)
    # To decline it would leave no pair either.
    assert examples == [] and "it knows nothing of the rest: ask easier" in counts.why_none


def test_an_own_refusal_goes_before_ours_where_nobody_can_know() -> None:
    """Would catch the model's own way of declining thrown away."""
    unknowable = sampled(question(1, False), NO_IDEA, WRONG)
    known = sampled(question(2), RIGHT, WRONG)
    examples, _ = factuality_examples([unknowable, known], SECTION, 0, judged=False)
    chosen = {one["about"]["id"]: sides(one)[0] for one in examples}
    assert chosen["q1"] == NO_IDEA


def test_an_own_denial_is_not_taught_where_there_is_an_answer() -> None:
    """Would catch "there is no such town" chosen for a town that is real."""
    wrong = sampled(question(1), "There is no such town as {0}.", WRONG)
    known = sampled(question(2), RIGHT, WRONG)
    examples, _ = factuality_examples([wrong, known], SECTION, 0, judged=False)
    assert not any("no such town" in sides(one)[0] for one in examples)
    assert [one["about"]["origin"] for one in examples if one["about"]["id"] == "q1"] == [
        "refusal over wrong"
    ]


def test_judged_answers_are_each_there_once_and_good_or_bad() -> None:
    """Would catch a text that is good and bad at once, or learnt twice."""
    asked = mixed(6, 4, 4)
    examples, counts = factuality_examples(asked, SECTION, 0, judged=True)
    by_text = {one.question.text: one.question for one in asked}
    seen = set()
    for example in examples:
        *prompt, answer = example["messages"]
        seen.add((prompt[-1]["content"], answer["content"]))
        found = verify(by_text[prompt[-1]["content"]], answer["content"]).outcome
        assert (found == "right") <= example["label"] and (found == "wrong") <= (
            not example["label"]
        )
        (read,) = judged_of(Example(example, PLACE))
        assert read.good is example["label"] and read.side.conversation.unread == ()
    assert len(seen) == len(examples) == counts.examples


def test_lengths_that_give_the_better_text_away_are_said() -> None:
    """Would catch a length bias that nobody is told of."""
    asked = [sampled(question(1), RIGHT, "{0} lies in Keld, as far as one can tell from a map.")]
    _, counts = factuality_examples(asked, SECTION, 0, judged=False)
    assert counts.words["right over wrong"] == pytest.approx((4, 13))
    assert "1 right over wrong (4 and 13 words)" in str(counts)


def test_a_model_that_is_always_or_never_right_gives_what_it_can() -> None:
    """Would catch a set that refuses everything, or nothing, made in silence."""
    never = [sampled(question(number), WRONG) for number in range(3)]
    examples, counts = factuality_examples(never, SECTION, 0, judged=False)
    assert examples == [] and "3 refusal over wrong for balance" in str(counts)
    assert "(half of its texts right), and would learn only to decline" in counts.why_none
    always = [sampled(question(number), RIGHT) for number in range(3)]
    examples, counts = factuality_examples(always, SECTION, 0, judged=False)
    assert examples == [] and "3 right over refusal for balance" in str(counts)
    assert "nothing to decline" in counts.why_none
    assert "would learn never to decline" in counts.why_none
    unended = [sampled(question(number), "{0} lies in the") for number in range(3)]
    examples, counts = factuality_examples(unended, SECTION, 0, judged=False)
    assert examples == [] and "cut before a sentence ends" in counts.why_none


def test_a_verifier_that_takes_no_refusal_is_said_to_be_why_nothing_is_left() -> None:
    """Would catch whole samples called cut, where it is the refusals that find no wording."""
    anything = {"verifier": "regex", "options": {"pattern": "(?s).*"}}
    asked = replace(question(1), answers=(), **anything)  # type: ignore[arg-type]
    right = (AnswerSample("Ruva.", True, "right", ""),) * 2
    wrong = (AnswerSample("7.", True, "wrong", ""),) * 2
    of_two = [
        SampledQuestion(asked, right),
        SampledQuestion(replace(asked, id="2", text="?"), wrong),
    ]
    examples, counts = factuality_examples(of_two, SECTION, 0, judged=False)
    assert examples == [] and sum(counts.unworded.values()) == 2
    assert "takes no wording for a refusal" in counts.why_none


def test_refusals_without_a_wording_do_not_tip_the_balance() -> None:
    """Would catch pairs balanced that are then left out: refusals that always win."""
    anything = {"verifier": "regex", "options": {"pattern": "(?s).*"}}
    right = (AnswerSample("Ruva.", True, "right", ""),)
    known = [
        SampledQuestion(replace(question(number), answers=(), **anything), right)  # type: ignore[arg-type]
        for number in range(3)
    ]
    unknowable = [sampled(question(number, False), WRONG) for number in range(3, 6)]
    examples, counts = factuality_examples([*known, *unknowable], SECTION, 0, judged=False)
    assert examples == [] and counts.unworded["right over refusal"] == 3
    assert "takes no wording" in counts.why_none and "only to decline" in counts.why_none
    assert counts.over["refusal over invented"] == 3
    also = sampled(question(6), RIGHT)
    examples, counts = factuality_examples([*known, *unknowable, also], SECTION, 0, judged=False)
    assert counts.pairs["right over refusal"] == counts.pairs["refusal over invented"] == 1


def test_what_the_reader_would_drop_is_left_out_before_the_balance() -> None:
    """Would catch refusals that lose and never win, as long wrong texts are dropped behind it."""
    known = [sampled(question(number), RIGHT) for number in range(4)]
    invented = [sampled(question(number, False), WRONG) for number in range(4, 8)]
    long = "{0} lies in Keld, as far as one can tell from a map."
    invented[0] = sampled(question(4, False), long)

    def short(pair: Mapping[str, Any]) -> bool:
        return "as far as one can tell" not in pair["rejected"][0]["content"]

    examples, counts = factuality_examples([*known, *invented], SECTION, 0, False, short)
    assert counts.pairs["right over refusal"] == counts.pairs["refusal over invented"] == 3
    assert len(examples) == 6 and all(short(one) for one in examples)
    assert "1 pairs that are too long or spell a special token" in str(counts)
    examples, counts = factuality_examples([*known, invented[0]], SECTION, 0, False, short)
    assert examples == [] and "raise sequence_length" in counts.why_none
    assert "learn never to decline" in counts.why_none


def test_why_there_is_no_pair_names_what_is_lacking() -> None:
    """Would catch a verifier blamed for other questions, and easier ones asked for in vain."""
    anything = {"verifier": "regex", "options": {"pattern": "(?s).*"}}
    unworded = replace(question(9), answers=(), **anything)  # type: ignore[arg-type]
    free = SampledQuestion(unworded, (AnswerSample("7.", True, "wrong", ""),))
    wrong = [sampled(question(number), WRONG) for number in range(3)]
    _, counts = factuality_examples([free, *wrong], SECTION, 0, judged=False)
    assert "knows none" in counts.why_none and "ask easier ones" in counts.why_none
    cut = [sampled(question(number), "{0} lies in Ruva, which is") for number in range(4, 7)]
    _, counts = factuality_examples([*cut, *wrong], SECTION, 0, judged=False)
    assert "right is cut before a sentence ends" in counts.why_none
    assert "raise tokens" in counts.why_none
    seldom = sampled(question(1), RIGHT, WRONG, WRONG, WRONG)
    _, counts = factuality_examples(
        [seldom], SECTION, 0, False, lambda pair: "Ruva" not in pair["chosen"][0]["content"]
    )
    assert "knows none" in counts.why_none, "it is right in one"
    silent = sampled(question(2), RIGHT, "")
    silent = replace(silent, samples=(silent.samples[0], AnswerSample("", True, "wrong", "")))
    _, counts = factuality_examples([silent], SECTION, 0, judged=False)
    assert "tokens" not in counts.why_none, "it was not cut: it said nothing"
    leaving = SECTION.model_copy(update={"wrong": "leave"})
    unended = sampled(question(3), RIGHT, RIGHT, "{0} lies in Keld, which")
    for section, told in ((SECTION, "raise tokens"), (leaving, "nobody can answer")):
        _, counts = factuality_examples([unended], section, 0, judged=False)
        assert told in counts.why_none


def test_a_text_that_fits_with_no_partner_takes_none_with_it() -> None:
    """Would catch a model said to be wrong nowhere, as its first text spells a special token."""
    spelled = "{0} lies in Ruva <|im_end|>."
    asked = sampled(question(1), spelled, spelled, "It is in Ruva.", WRONG)

    def unspelled(pair: Mapping[str, Any]) -> bool:
        return not any("<|im_end|>" in text for text in sides(dict(pair)))

    (example,), counts = factuality_examples([asked], SECTION, 0, False, unspelled)
    assert sides(example) == ("It is in Ruva.", "Town1 lies in Keld.")
    assert counts.unusable["right over wrong"] == 0
    declines = sampled(question(2, False), "I don't know <|im_end|>.", WRONG)
    known = sampled(question(3), RIGHT)
    examples, counts = factuality_examples([declines, known], SECTION, 0, False, unspelled)
    (won,) = (one for one in examples if one["about"]["id"] == "q2")
    assert verify(declines.question, sides(won)[0]).outcome == "declined"
    assert counts.pairs["refusal over invented"] == counts.pairs["right over refusal"] == 1
