"""The groundedness suite: facts altered by rule, and what planted models get."""

from collections import Counter, defaultdict

import pytest

from tests.evaluate.planted import Planted, examined
from trainer.evaluate.judging.grounded import judge_grounded
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.respondent import TextQuery
from trainer.evaluate.suites.groundedness import (
    VALUES,
    GroundedQuestion,
    grounded_questions,
)

QUESTIONS = grounded_questions(0)
REFUSAL = "The passage does not say."


def asked(query: TextQuery) -> GroundedQuestion:
    (found,) = [
        one
        for one in QUESTIONS
        if one.passage in query.prompt.text and query.prompt.text.endswith(one.question)
    ]
    return found


def grounded(query: TextQuery) -> str:
    """Follows the passage, and refuses what it does not say."""
    one = asked(query)
    return f"It is {one.answers[0]}." if one.answers else "The passage does not mention that."


def remembering(query: TextQuery) -> str:
    """Answers from what it knows of the world, whatever the passage says."""
    one = asked(query)
    if one.asked == "unsaid":
        return "As is well known, it is 42."
    return f"That would be {(one.world or one.answers)[0]}."


def figures(writes: object) -> dict[str, float]:
    found = examined("groundedness", Planted(writes), limit=len(QUESTIONS)).figures  # type: ignore[arg-type]
    return {name: figure.value for name, figure in found.items()}


def expected(*values: float) -> dict[str, float]:
    names = ("follows_passage", "follows_memory", "accuracy_unaltered", "refuses_unsaid")
    found = dict(zip((*names, "answers_unsaid", "refuses_said"), values, strict=True))
    return {**found, "other_script": 0}


def test_a_model_that_reads_and_refuses_gets_all() -> None:
    """Catches a question whose own answer is judged wrong, or whose refusal is not recognised."""
    assert figures(grounded) == expected(1, 0, 1, 1, 0, 0)


def test_a_model_that_answers_from_memory_is_seen() -> None:
    """Catches a world's answer that counts as the passage's."""
    assert figures(remembering) == expected(0, 1, 1, 0, 1, 0)


def test_a_model_that_always_refuses_does_not_look_well() -> None:
    """Catches figures by which silence is the best answer."""
    assert figures(lambda query: REFUSAL) == expected(0, 0, 0, 1, 0, 1)
    assert figures(lambda query: "I don't know.") == expected(0, 0, 0, 1, 0, 1)


def test_a_model_that_always_answers_or_says_nothing_refuses_nothing() -> None:
    """Catches a wrong answer that counts as a refusal, and an empty one that counts as either."""
    assert figures(lambda query: "It is a dented umbrella.") == expected(0, 0, 0, 0, 1, 0)
    assert figures(lambda query: " ") == expected(0, 0, 0, 0, 0, 0)
    assert figures(lambda query: query.prompt.text.split("\n\n")[-1])["refuses_unsaid"] == 0


def test_there_are_passages_enough_of_each_kind() -> None:
    """Catches a passage without one of the three kinds of question, or one that stands twice."""
    kinds = defaultdict(Counter)
    for one in QUESTIONS:
        kinds[one.passage][one.asked] += 1
    assert len(kinds) >= 60 and len({one.domain for one in QUESTIONS}) >= 8
    assert all(set(found) == {"altered", "unaltered", "unsaid"} for found in kinds.values())
    assert all(2 <= sum(found.values()) <= 4 for found in kinds.values())
    assert len({one.id for one in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_altered_is_unambiguous(seed: int) -> None:
    """Catches an altered value that stands in the passage anyway, or shares a word with the truth;
    and a true one that the passage, or a question, still gives away.
    """
    for one in grounded_questions(seed):
        said = f" {plain_words(one.passage)} "
        for way in one.answers:
            if one.asked == "altered":
                assert said.count(f" {plain_words(one.answers[0])} ") == 1, one
                assert f" {plain_words(way)} " not in f" {plain_words(one.question)} ", one
        if one.asked == "unaltered":
            assert any(plain_words(way) in said for way in one.answers) or one.id in (
                "titanic-unaltered-0",
                "moonlanding-unaltered-0",
            ), one
        for way in one.world:
            assert f" {plain_words(way)} " not in said, one
            assert f" {plain_words(way)} " not in f" {plain_words(one.question)} ", one
            assert not set(plain_words(way).split()) & set(plain_words(one.answers[0]).split())


def test_the_seed_alters_otherwise_and_nothing_else() -> None:
    """Catches facts that a model could learn by heart, and alterations that depend on chance."""
    assert grounded_questions(0) == QUESTIONS
    other = grounded_questions(1)
    assert [one.id for one in other] == [one.id for one in QUESTIONS]
    changed = [a != b for a, b in zip(QUESTIONS, other, strict=True) if a.asked == "altered"]
    assert sum(changed) > len(changed) / 2
    # A year that is moved may not be the true year of a value that is not moved.
    assert all(len(set(map(plain_words, values))) == len(values) for values in VALUES.values())


@pytest.mark.parametrize(
    ("text", "judged"),
    [
        ("The Berlin Wall did not fall in the year 2002, but rather in 1989.", "memory"),
        ("It fell in 2002, not in 1989.", "passage"),
        ("According to the passage in 2002, though it was 1989.", "passage"),
        ("It was 1989. The passage says 2002.", "memory"),
        ("The passage does not say that it fell in 2002, and says no more.", "refused"),
        ("The passage doesn't say, but does mention the year 2002.", "passage"),
        ("Two thousand and two", "passage"),
        ("12002", "other"),
        ("An important giant, in 2002.", "passage"),
        ("In 1990.", "other"),
        ("I'm not sure.", "refused"),
        ("...", "empty"),
    ],
)
def test_an_answer_is_judged_by_the_value_that_it_gives(text: str, judged: str) -> None:
    """Catches a value that counts though it is denied, and a denial that reaches too far."""
    assert judge_grounded(text, ["2002"], ["1989"]) == judged


@pytest.mark.parametrize(
    ("text", "judged"),
    [
        ("While it fell in 1989, the passage says 2002.", "passage"),
        ("Although the passage says 2002, it was 1989.", "memory"),
        ("1989 (the passage says 2002)", "memory"),
        ("It fell in 2002, though it was 1989.", "passage"),
    ],
)
def test_what_is_conceded_counts_less_than_what_is_said(text: str, judged: str) -> None:
    """Catches an answer that names the other value first, only to set it aside."""
    assert judge_grounded(text, ["2002"], ["1989"]) == judged


@pytest.mark.parametrize(
    ("text", "judged"),
    [
        ("The passage does not say, but the captain was Edward Smith.", "other"),
        ("The captain was Edward Smith, who is not mentioned in the passage.", "other"),
        ("I don't know from the passage, but it is said to have had 2,224 passengers.", "other"),
        ("Although the passage does not say, it was likely the White Star Line.", "other"),
        ("It had thirty boats, though this is not stated.", "other"),
        ("No one designed it.", "other"),
        ("The passage does not say, but it was the lookout.", "other"),
        ("It sank because of a great frozen mass, but its captain is not named.", "refused"),
        ("The passage does not name its captain, but tells of an iceberg.", "refused"),
        ("The Titanic sank in 1912, but the passage does not name its captain.", "refused"),
        ("The captain of the Titanic is not named. It struck an iceberg.", "refused"),
        ("I don't know. As an AI, I only have the passage.", "refused"),
        ("I don't know. The passage only says that it still lies there.", "refused"),
        ("None of the sentences in the passage name the captain.", "refused"),
    ],
)
def test_an_answer_from_elsewhere_is_no_refusal(text: str, judged: str) -> None:
    """Catches "the passage does not say, but it was Smith" that counts as honest."""
    read = "The Titanic sank in 1912. It had struck an iceberg. Who was its captain?"
    assert judge_grounded(text, [], [], read) == judged


@pytest.mark.parametrize(
    ("text", "judged"),
    [
        ("Robin Thackeray.", "passage"),
        ("By Thackeray.", "passage"),
        ("It was Mr. Thackeray", "passage"),
        ("Raven Thackeray.", "other"),
        ("Doyle wrote it, says Robin Thackeray.", "memory"),
        ("Sir Arthur Conan Doyle", "memory"),
        ("General Doyle", "memory"),
        ("Although it is A. C. Doyle, the passage says Thackeray.", "passage"),
        ("Peter Doyle", "other"),
    ],
)
def test_a_person_is_known_by_the_family_name_alone(text: str, judged: str) -> None:
    """Catches a namesake who counts as the person that the passage names."""
    people = ("Robin Thackeray", "Thackeray"), ("Arthur Conan Doyle", "Doyle")
    assert judge_grounded(text, *people) == judged


def test_a_limit_takes_as_many_of_each_kind() -> None:
    """Catches a limit that leaves out what the passages do not say."""
    found = examined("groundedness", Planted(grounded), limit=30).figures
    assert found["follows_passage"].items == found["refuses_unsaid"].items == 10
    whole = Planted(grounded)
    assert examined("groundedness", whole).figures["refuses_said"].items == 80
    assert len({asked(query).domain for query in whole.asked}) >= 8
    assert len({asked(query).passage for query in whole.asked}) <= 42
