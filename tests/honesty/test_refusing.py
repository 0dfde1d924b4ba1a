"""Refusals vary, are taken for refusals, and say nothing of what they refuse."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from tests.honesty.asked import question
from trainer.evaluate.judging.abstention import abstention
from trainer.honesty.question_words import asked_by, named_subject
from trainer.honesty.reasons import as_clause, as_sentence, reasons_of
from trainer.honesty.refusing import key_of, refusals_of
from trainer.honesty.wordings import wordings
from trainer.questions.question import Question
from trainer.recipe.own_samples import RefusalsSection

PLAIN = ("any", "helping", "guessing", "nobody", "subject", "asked")
EXPLAINED = ("reason_sentence", "reason_clause")
CLAIMS = re.compile(
    r"\b(?:exists?|existed|real(?!ly)|fiction\w*|imaginary|fake|hoax|myth\w*|nonsense|no such|there"
    r" (?:is|was) no(?!t)(?! (?:way|answer))|false|wrong question|typo)\b",
    re.IGNORECASE,
)
"""Words that say of a thing whether it is there."""
REASONS = ("I have never heard of Quarnok", "nobody has ever recorded that")
SUBJECTS = ("Zambodia", "the Battle of Kars", "a spotted glimfarrow")
ASKED = ("who", "when", "how many", "which singer", "in which year")
WITH_REASONS = RefusalsSection(wordings=100)
WITHOUT = RefusalsSection(wordings=100, reasons=False)


def written() -> list[str]:
    """Every wording, with each of several things in its places."""
    found = [
        wording.format(subject=subject, asked=asked)
        for section in PLAIN
        for wording in wordings(section)
        for subject in SUBJECTS[: 3 if "{subject}" in wording else 1]
        for asked in ASKED[: 5 if "{asked}" in wording else 1]
    ]
    reasons = (*REASONS, *wordings("private"), *wordings("future"))
    return found + [
        wording.format(Reason=as_sentence(reason), reason=reason)
        for section in EXPLAINED
        for wording in wordings(section)
        for reason in reasons
    ]


def test_every_wording_is_taken_for_a_refusal() -> None:
    """Would catch a wording that the judge calls wrong."""
    assert [text for text in written() if abstention(text) is None] == []


def test_no_wording_says_anything_of_the_thing_itself() -> None:
    """Would catch "it does not exist", said of what the model merely does not know."""
    wrong = [text for text in written() if CLAIMS.search(text) or any(map(str.isdigit, text))]
    assert wrong == []


@pytest.mark.parametrize("text", ["Zambodia lies in Asia.", "Zambodia, a country in Asia."])
def test_an_answer_among_the_wordings_would_be_found(text: str) -> None:
    """Negative control: the judge tells an answer from a refusal."""
    assert abstention(text) is None


@pytest.mark.parametrize(
    "text", ["There is no such country.", "It does not exist.", "Zambodia is not real."]
)
def test_a_denial_among_the_wordings_would_be_found(text: str) -> None:
    """Negative control: what asserts that there is no such thing is told."""
    assert CLAIMS.search(text)


def test_wordings_are_many_and_begin_and_end_in_many_ways() -> None:
    """Would catch a first word, or a length, by which a model tells that it is to refuse."""
    every = [wording for section in (*PLAIN, *EXPLAINED) for wording in wordings(section)]
    assert len(every) == len(set(every)) >= 120
    first = Counter(wording.split()[0].split("'")[0].strip(",.") for wording in every)
    assert len(first) >= 40 and first.most_common(1)[0][1] < len(every) / 3
    lengths = [len(wording.split()) for wording in every]
    assert min(lengths) <= 3 and max(lengths) >= 18


def test_wordings_are_used_equally_often_whatever_the_order() -> None:
    """Would catch a wording that half of the set has, and one that the order of a file decides."""
    asked = [question(number, known=number % 2 == 0) for number in range(150)]
    found = refusals_of(asked, WITHOUT, 3)
    uses = Counter(refusals[0].wording for refusals in found.values())
    assert max(uses.values()) - min(uses.values()) <= 1
    assert refusals_of(asked[::-1], WITHOUT, 3) == found
    again = refusals_of(asked, WITHOUT, 4)
    same = sum(again[name] == found[name] for name in found)
    assert same < 15


def test_few_wordings_begin_with_the_speaker() -> None:
    """Would catch refusals whose first words are so many that a greedy answer never takes one."""
    asked = [question(number, known=number % 2 == 0) for number in range(150)]
    asked += [question(number, False, reason="nobody told me") for number in range(150, 250)]
    begun = Counter[str]()
    for refusals in refusals_of(asked, RefusalsSection(), 3).values():
        begun[re.split(r"[ ']", refusals[0].text)[0]] += 1
    assert begun["I"] > 0.7 * begun.total()
    many = Counter(
        re.split(r"[ ']", refusals[0].text)[0]
        for refusals in refusals_of(asked, WITH_REASONS, 3).values()
    )
    assert many["I"] < 0.5 * many.total()


def test_a_reason_is_said_where_there_is_one() -> None:
    """Would catch a reason that is lost, said where reasons are off, or not a sentence."""
    told = [question(number, False, reason="nobody ever wrote it down") for number in range(40)]
    for refusals in refusals_of(told, WITH_REASONS, 0).values():
        assert "obody ever wrote it down" in refusals[0].text and refusals[0].says_why
        assert ".." not in refusals[0].text
    for refusals in refusals_of(told, WITHOUT, 0).values():
        assert "wrote it down" not in refusals[0].text and not refusals[0].says_why


def test_what_is_private_or_to_come_follows_from_the_question() -> None:
    """Would catch a reason about the future for the past, or one where somebody knows."""
    assert reasons_of(Question("1", "What is the name of my dog?")) == wordings("private")
    assert reasons_of(Question("2", "Who will win the cup in 2062?")) == wordings("future")
    assert reasons_of(Question("3", "Who won the cup of Quarnok?")) == ()
    assert reasons_of(Question("4", "What will the sum be?", ("3",), reason="x")) == ()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("I have never heard of glimfarrow", "I have never heard of a glimfarrow"),
        ("I have never heard of a glimfarrow.", "I have never heard of a glimfarrow"),
        ("nobody has seen it", "nobody has seen it"),
    ],
)
def test_a_reason_names_the_subject_as_the_question_does(reason: str, said: str) -> None:
    """Would catch "I have never heard of glimfarrow"."""
    asked = Question("1", "What does a glimfarrow eat?", options={"subject": "glimfarrow"})
    assert reasons_of(replace(asked, reason=reason)) == (said,)


def test_a_reason_keeps_its_sense_within_a_sentence() -> None:
    """Would catch "because Nobody knows", and a name that loses its capital."""
    assert as_clause("Nobody knows") == "nobody knows" and as_clause("I forgot") == "I forgot"
    assert as_clause("Quarnok is not known to me") is None
    assert as_clause("I forgot. It was long ago") is None


@pytest.mark.parametrize(
    ("text", "subject", "named"),
    [
        ("Where is the Negev Desert?", "Negev Desert", "the Negev Desert"),
        ("What does a glimfarrow eat?", "glimfarrow", "a glimfarrow"),
        ('What does "quaillaish" mean?', "quaillaish", '"quaillaish"'),
        ("When was Ann Bo born?", "Ann Bo", "Ann Bo"),
        ("What is a baby glimfarrow called?", "glimfarrow", None),
        ("Which is taller, a house or a tower?", "Which is taller, a house or a tower?", None),
    ],
)
def test_a_subject_is_named_as_the_question_names_it(
    text: str, subject: str, named: str | None
) -> None:
    """Would catch "about glimfarrow", "about Negev Desert", and a whole question for a subject."""
    assert named_subject(Question("1", text, options={"subject": subject})) == named


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("When was it built?", "when"),
        ("In which country did it begin?", "in which country"),
        ("How many wheels has it?", "how many"),
        ("Who was Ann Bo?", None),
        ("Which famous painter painted it?", None),
        ("How do you knit it?", None),
        ("On how many wheels does it run?", None),
    ],
)
def test_words_are_taken_up_that_a_sentence_can_end_in(text: str, asked: str | None) -> None:
    """Would catch "I don't know which famous"."""
    assert asked_by(Question("1", text)) == asked


def test_a_short_answer_is_short_and_one_sentence_is_one() -> None:
    """Would catch refusals that teach a model to pass over what the prompt asks for."""
    brief = [replace(question(n), system="Answer in a few words.") for n in range(60)]
    for refusals in refusals_of(brief, WITH_REASONS, 0).values():
        assert len(refusals[0].text.split()) <= 12
    single = [replace(question(n), system="Answer in one sentence.") for n in range(60)]
    for refusals in refusals_of(single, WITH_REASONS, 0).values():
        assert refusals[0].text[:-1].count(". ") == 0


def test_a_question_whose_verifier_takes_no_refusal_gets_none() -> None:
    """Would catch a refusal that is learnt although it counts as an answer."""
    anything = Question("1", "Say something.", verifier="regex", options={"pattern": "(?s).*"})
    assert refusals_of([anything], WITH_REASONS, 0) == {key_of(anything): ()}
