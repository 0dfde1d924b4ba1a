"""What verifier exact takes off a text before it is held against the key, and what it leaves."""

import pytest

from trainer.questions.exactly import compared
from trainer.questions.question import Question
from trainer.questions.verifiers import check_fits, verify


def outcome(key: str, text: str) -> str:
    question = Question("q", "?", (key,), verifier="exact")
    check_fits(question)
    return verify(question, text).outcome


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(("init", "__init__"), ("args", "*args"), ("args", "**args"), ("5", "5*"), ("a", "a'")),
        *(("C++", "C"), ("C++", "C+"), ("C++", "C++ or C")),
        *(("102", "10\u00b2"), ("__init__", "init"), ("*args", "args"), ('"a"', "a"), ("C", "C*")),
    ],
)
def test_marks_of_a_key_and_of_a_text_are_letters_of_theirs(key: str, text: str) -> None:
    """Would catch names of code, footnotes and powers that pass for what they are not."""
    assert outcome(key, text) == "wrong"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(("init", "**init**"), ("init", "`init`."), ("init", '"init."'), ("init", "_init_")),
        *(("init", "*`init`*"), ("init", "```\ninit\n```"), ("init", "***\u201cinit\u201d***.")),
        *(("__init__", "`__init__`"), ("*args", "**`*args`**"), ('"a"', '"a"'), ('"a"', '**"a"**')),
        *(("C++", "c++"), ("C++", "`C++`")),
        *(("10\u00b2", "10^2"), ("H2O", "H\u2082O"), ("5 m2", "5 m\u00b2"), ("etc.", "etc")),
    ],
)
def test_what_is_paired_around_a_text_is_no_part_of_it(key: str, text: str) -> None:
    """Negative control: would catch right answers refused for how they are set off."""
    assert outcome(key, text) == "right"


def test_pairs_without_end_are_taken_off_in_a_moment() -> None:
    """Would catch a time that grows with the square of a text of marks alone."""
    text = "*'" * 50_000 + "a" + "'*" * 50_000
    assert compared(text) == text[4:-4]  # two pairs of each mark


def test_a_choice_is_told_by_its_marks() -> None:
    """Would catch a choice that is taken for another, once its marks are gone."""
    options = {"choices": ["args", "*args", "__init__"]}
    for key in options["choices"]:
        question = Question("q", "?", (key,), verifier="choice", options=options)
        check_fits(question)
        assert [verify(question, one).outcome == "right" for one in options["choices"]] == [
            one == key for one in options["choices"]
        ]
        assert verify(question, f"`{key}`").outcome == "right"
