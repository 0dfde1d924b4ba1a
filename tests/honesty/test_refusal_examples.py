"""Examples of refusals hold the model's own words and ours, within the share."""

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.honesty.asked import CUT, RIGHT, WRONG, mixed, question, sampled
from trainer.conversations.forms import conversation_of
from trainer.conversations.records import Example
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.honesty.own_answers import own_answers, whole_sentences
from trainer.honesty.refusal_examples import refusal_examples
from trainer.questions.verifiers import verify
from trainer.recipe.own_samples import RefusalsSection

SECTION = RefusalsSection(questions=("q.jsonl",))


def said(example: dict[str, Any]) -> str:
    return example["messages"][-1]["content"]


@settings(max_examples=12, deadline=None)
@given(
    numbers=st.tuples(*(st.integers(0, 9) for _ in range(3))),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75, 1.0]),
    seed=st.integers(0, 3),
)
def test_nothing_enters_but_own_texts_and_refusals_within_the_share(
    numbers: tuple[int, int, int], share: float, seed: int
) -> None:
    """Would catch the key taught, a share that is passed by one, and an order that matters."""
    asked = mixed(*numbers)
    section = SECTION.model_copy(update={"share": share})
    examples, counts = refusal_examples(asked, section, seed)
    shuffled = random.Random(seed).sample(asked, len(asked))
    assert refusal_examples(shuffled, section, seed) == (examples, counts)
    by_text = {one.question.text: one for one in asked}
    origins: Counter[str] = Counter()
    for example in examples:
        source = by_text[example["messages"][-2]["content"]]
        origins[example["about"]["origin"]] += 1
        if example["about"]["origin"] == "known":
            assert any(one.text.startswith(said(example)) for one in source.samples)
        assert verify(source.question, said(example)).outcome == (
            "right" if example["about"]["origin"] == "known" else "declined"
        )
    refused = origins["wrong"] + origins["unknowable"]
    assert refused <= share * len(examples) and origins["known"] == numbers[0]
    assert (origins["wrong"], origins["unknowable"]) == (counts.wrong, counts.unknowable)
    # As many as fit: one more would be beyond the share.
    fits = refused + 1 <= share * (len(examples) + 1)
    assert not (fits and refused < numbers[1] + numbers[2])


def test_the_most_frequent_right_text_answers_and_of_equals_the_earliest() -> None:
    """Would catch the first right text taken though another came more often."""
    often = sampled(question(1), "Ruva, I believe it is.", RIGHT, WRONG, RIGHT)
    equal = sampled(question(2), "It is in Ruva.", RIGHT)
    examples, _ = refusal_examples([often, equal], SECTION, 0)
    assert {said(one) for one in examples} == {"Town1 lies in Ruva.", "It is in Ruva."}


def test_a_cut_text_is_used_up_to_its_last_whole_sentence_or_not_at_all() -> None:
    """Would catch half sentences learnt, and a shortened text of which the answer was cut off."""
    shortened = sampled(question(1), CUT, CUT)
    lost = sampled(question(2), "Let me think. The town called {0} is in Ruva, and")
    examples, counts = refusal_examples([shortened, lost], SECTION, 0)
    assert [said(one) for one in examples] == ["Town1 lies in Ruva."]
    assert examples[0]["continue_final_message"], "its end is not the model's"
    ended, _ = refusal_examples([sampled(question(1), RIGHT)], SECTION, 0)
    assert "continue_final_message" not in ended[0]
    assert (counts.known, counts.shortened, counts.without_text) == (1, 1, 1)
    assert "1 known without a right text that stands by itself" in str(counts)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It was J. R. R. Tolkien and", ""),
        ("It was Dr. Bo. He was", "It was Dr. Bo."),
        ('She said "no." Then', 'She said "no."'),
        ("There are:\n\n1. Milk\n\n2.", ""),
        ("Is it? Yes! And", "Is it? Yes!"),
        ("nothing", ""),
    ],
)
def test_a_sentence_does_not_end_in_an_initial_or_a_lists_number(text: str, kept: str) -> None:
    """Would catch "It was J." for an answer."""
    assert whole_sentences(text) == kept


def test_texts_that_ended_go_before_those_that_were_cut() -> None:
    """Would catch a cut text preferred for coming more often."""
    found = own_answers(sampled(question(1), CUT, CUT, "It is in Ruva."), "right")
    assert [(one.text, one.shortened) for one in found] == [
        ("It is in Ruva.", False),
        ("Town1 lies in Ruva.", True),
    ]


def test_the_threshold_tells_what_is_known() -> None:
    """Would catch a share of right texts compared the wrong way round, or without equality."""
    half = [sampled(question(1), RIGHT, WRONG)]
    assert refusal_examples(half, SECTION, 0)[1].known == 1
    higher = SECTION.model_copy(update={"threshold": 0.6, "share": 1.0})
    assert refusal_examples(half, higher, 0)[1].wrong == 1


def test_what_is_wrong_can_be_left() -> None:
    """Would catch `wrong: leave` that declines all the same, or leaves what nobody can know too."""
    section = SECTION.model_copy(update={"wrong": "leave"})
    _, counts = refusal_examples(mixed(9, 4, 4), section, 0)
    assert (counts.wrong, counts.left, counts.unknowable) == (0, 4, 4)


def test_what_is_left_out_for_the_share_is_of_all_kinds_alike() -> None:
    """Would catch a set that refuses one kind of question alone."""
    examples, counts = refusal_examples(mixed(12, 30, 9), SECTION, 0)
    assert (counts.wrong, counts.unknowable) == (6, 6)
    assert counts.over_share == {"wrong": 24, "unknowable": 3}
    kinds = {one.question.text: one.question.kind for one in mixed(12, 30, 9)}
    refused = [one for one in examples if one["about"]["origin"] == "wrong"]
    found = Counter(kinds[one["messages"][-2]["content"]] for one in refused)
    assert set(found.values()) == {2} and len(found) == 3


def test_one_prompt_is_one_example() -> None:
    """Would catch a question of two files learnt twice, or two system prompts taken for one."""
    once = sampled(question(1), RIGHT)
    twice = sampled(replace(question(1), id="again"), RIGHT)
    other = sampled(replace(question(1), id="other", system="Be brief."), RIGHT)
    examples, counts = refusal_examples([once, twice, other], SECTION, 0)
    assert (len(examples), counts.repeated) == (2, 1)
    assert [
        one["role"] for one in max(examples, key=lambda one: len(one["messages"]))["messages"]
    ] == [*("system", "user", "assistant")]


def test_an_example_is_read_whole_and_says_where_it_is_from() -> None:
    """Would catch a key of ours that the reading of sets tells as read by nothing."""
    (example,), _ = refusal_examples([sampled(question(1), RIGHT)], SECTION, 0)
    assert example["about"] == {"id": "q1", "origin": "known"}
    place = RecordLocation("own.jsonl", "line", 1)
    assert conversation_of(Example(example, place)).unread == ()
    assert conversation_of(Example({**example, "about": "web"}, place)).unread == ("about",)


@settings(max_examples=12, deadline=None)
@given(
    numbers=st.tuples(st.integers(1, 5), st.integers(0, 9), st.integers(0, 9)),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.75, 1.0]),
    seed=st.integers(0, 3),
)
def test_beyond_the_share_what_is_known_comes_again(
    numbers: tuple[int, int, int], share: float, seed: int
) -> None:
    """Would catch refusals left out all the same, too few answers, and one that comes too often."""
    section = SECTION.model_copy(update={"share": share, "beyond_share": "repeat"})
    examples, counts = refusal_examples(mixed(*numbers), section, seed)
    known = Counter(
        one["messages"][-2]["content"] for one in examples if one["about"]["origin"] == "known"
    )
    refused = len(examples) - known.total()
    assert refused == (numbers[1] + numbers[2] if share else 0)
    assert len(known) == numbers[0] and max(known.values()) - min(known.values()) <= 1
    assert counts.again == known.total() - numbers[0]
    assert refused <= share * len(examples)
    # No answer more than that takes.
    assert not counts.again or refused > share * (len(examples) - 1)


def test_what_comes_again_is_said_in_its_other_right_words() -> None:
    """Would catch one text learned by heart where the model has two."""
    known = sampled(question(1), "It is in Ruva.", RIGHT)
    unknown = [sampled(question(number), WRONG, WRONG) for number in range(2, 5)]
    section = SECTION.model_copy(update={"beyond_share": "repeat"})
    examples, counts = refusal_examples([known, *unknown], section, 0)
    texts = Counter(said(one) for one in examples if one["about"]["origin"] == "known")
    assert texts == {"It is in Ruva.": 2, "Town1 lies in Ruva.": 1}
    assert "1 are answered in the model's own words" in str(counts)
    assert "and 2 times again" in str(counts)


def test_what_the_reader_would_drop_is_left_out_before_the_share() -> None:
    """Would catch a share that the set does not have, as its long answers are dropped behind it."""
    known = [sampled(question(number), RIGHT, "It is in Ruva.") for number in range(4)]
    unknown = [sampled(question(number, False), WRONG) for number in range(4, 12)]

    def short(example: Mapping[str, Any]) -> bool:
        long = {"Town0 lies in Ruva.", "Town1 lies in Ruva.", "It is in Ruva."}
        return said(dict(example)) not in long

    examples, counts = refusal_examples([*known, *unknown], SECTION, 0, short)
    assert (counts.known, counts.unknowable) == (2, 2)
    assert counts.unusable == {"known": 2, "wrong": 0, "unknowable": 0}
    assert len(examples) == 4 and all(short(one) for one in examples)
    assert "2 too long or spelling a special token" in str(counts)
    _, counts = refusal_examples([*known, *unknown], SECTION, 0, lambda one: False)
    assert (counts.known, counts.unknowable) == (0, 0)
    assert counts.unusable == {"known": 4, "wrong": 0, "unknowable": 8}


def test_a_refusal_that_the_reader_would_drop_is_worded_otherwise() -> None:
    """Would catch a question left out for its first wording, where a shorter one would do."""
    known = [sampled(question(number), RIGHT) for number in range(12)]
    unknown = [sampled(question(number, False), WRONG) for number in range(12, 24)]
    offered = {said(one) for one in refusal_examples([*known, *unknown], SECTION, 0)[0]}
    refusals = sorted((text for text in offered if "Ruva" not in text), key=len)
    most = len(refusals[3])
    assert len(refusals[-1]) > most, "negative control: some are longer"
    examples, counts = refusal_examples(
        [*known, *unknown], SECTION, 0, lambda one: len(said(dict(one))) <= most
    )
    assert counts.unknowable == 12 and not any(counts.unusable.values())
    assert all(len(said(one)) <= most for one in examples)


def test_wordings_are_even_among_what_is_kept() -> None:
    """Would catch wordings dealt to what the share then leaves out: few would be learned often."""
    known = [sampled(question(number), RIGHT) for number in range(20)]
    unknown = [sampled(question(number, False), WRONG) for number in range(20, 420)]
    examples, counts = refusal_examples([*known, *unknown], SECTION, 0)
    town = re.compile(r"Town\d+")
    told = Counter(
        town.sub("", said(one)) for one in examples if one["about"]["origin"] == "unknowable"
    )
    assert counts.unknowable == told.total() == 20
    assert max(told.values()) == 1, told
