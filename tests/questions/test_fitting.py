"""Which questions no verifier can do right by, and are refused in one line."""

import pytest

from trainer.errors import DataError
from trainer.questions.question import Question
from trainer.questions.verifiers import check_fits, verify


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        (Question("q", "?", ("4",), verifier="choice"), 'needs "choices"'),
        (
            Question(
                "q", "?", ("Rome",), verifier="choice", options={"choices": ["Paris", "Lyon"]}
            ),
            "'Rome' is none of its choices (A: Paris, B: Lyon)",
        ),
        (
            Question("q", "?", ("A",), verifier="choice", options={"choices": ["Paris", "paris."]}),
            "two of its choices have one text",
        ),
        (
            Question("q", "?", ("B",), verifier="choice", options={"choices": [" ", "Lyon"]}),
            "one of its choices is empty",
        ),
        (Question("q", "?", ("many",), verifier="number"), "has no number"),
        (
            Question("q", "?", ("4",), verifier="number", options={"tolerance": "much"}),
            "'much' is neither a number nor a share",
        ),
        (Question("q", "?", verifier="regex", options={"pattern": "(a"}), "'(a' is no pattern"),
        (
            Question("q", "?", verifier="regex", options={"pattern": "a", "match": "part"}),
            "neither full nor search",
        ),
        (
            Question("q", "?", verifier="json_schema", options={"schema": {"type": "thing"}}),
            "the schema is none",
        ),
        (
            Question("q", "?", verifier="json_schema", options={"schema": {"$ref": "#"}}),
            "refers to itself without end",
        ),
        (
            Question(
                *("q", "?"),
                verifier="json_schema",
                options={"schema": {"properties": {"a": {"$ref": "https://x.org/y"}}}},
            ),
            "'https://x.org/y' is no part of it",
        ),
        *(
            (Question("q", "?", (key,)), f"without its '{mark}'")
            for key, mark in (
                *(("2.5", "."), ("1/2", "/"), ("\u00bd", "\u2044"), ("12:30", ":"), ("2,5", ",")),
                *(
                    ("10%", "%"),
                    ("$5", "$"),
                    ("5 \u20ac", "\u20ac"),
                    ("10\u00b2", "^"),
                    ("-5", "-"),
                ),
            )
        ),
        (Question("q", "?", ("+",)), "has no word to look for"),
        (Question("q", "?", ("Paris",), options={"form": "year"}), "no whole number"),
        (Question("q", "?", ("Paris",), options={"form": "place"}), "is none of name, person"),
        (Question("q", "?", options={"pattern": "a"}), "set its verifier to regex"),
        (Question("q", " ", ("Paris",)), "the question is empty"),
        (Question("q", "?", ("",)), "an answer is empty"),
        (Question("q", "?", ("Paris",), options={"rivals": "Lyon"}), '"rivals" is no list'),
    ],
)
def test_a_verifier_that_does_not_fit_its_item_is_refused(question: Question, fault: str) -> None:
    """Would catch items that no text could ever answer rightly, found after hours of sampling."""
    with pytest.raises(DataError) as raised:
        check_fits(question)
    assert fault in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["1,919", "U2", "4x4", "July 4, 1776", "COVID-19", "Xi'an", "7th"])
def test_marks_that_part_words_are_no_fault_of_a_key(key: str) -> None:
    """Negative control: would catch names and dates that are refused for a mark inside of them."""
    question = Question("q", "What is it?", (key,))
    check_fits(question)
    assert verify(question, f"It is {key}.").outcome == "right"


@pytest.mark.parametrize(
    "key",
    [
        *("1M", "5k", "3 bn", "one half", "two thirds", "two and a half", "2 dozen", "12.345,67"),
        *("1.000.000", "12:30", "5-6", "5 \u00b1 0.1", "2\u03c0", r"\sqrt{2}", r"2\pi", "x + 1"),
        *(
            "5+",
            "< 5",
            "2^n",
            "5 hundred thousand",
            "12,34.5",
            "5 apples in 3 bags",
            "July 4, 1776",
        ),
    ],
)
def test_a_key_of_which_a_part_would_be_read_is_refused(key: str) -> None:
    """Would catch 1M that is read as 1, and pays for it in every answer."""
    with pytest.raises(DataError, match=r"has no number|no number that can be read whole"):
        check_fits(Question("q", "?", (key,), verifier="number"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("5 apples", "5"), ("around 5", "5"), ("x = 5", "5"), ("5km", "5"), ("the 5th", "5")),
        *(("9.8 m/s^2", "9.8"), ("5 m\u00b2", "5"), ("60 km/h", "60"), ("10-year", "10")),
        *(("1,234.50 euros", "1234.5"), ("US$42", "42"), ("3,5", "3.5"), ("1\u00bd", "1.5")),
        *(("five hundred thousand", "500000"), ("one", "1"), ("2 million", "2000000")),
        *(("6.02 x 10^23 mol^-1", "602e21"), ("10**6", "1e6"), ("2^10", "1024"), ("1e-07", "1e-7")),
        *(
            ("He has 2 + 3 = <<2+3=5>>5.\n#### 5", "5"),
            (r"Of 2, 3: \boxed{5}", "5"),
            ("50%", "50%"),
        ),
    ],
)
def test_a_number_with_words_around_is_a_key(key: str, value: str) -> None:
    """Negative control: would catch keys refused, or misread, for their units and words."""
    question = Question("q", "?", (key,), verifier="number")
    check_fits(question)
    assert verify(question, value).outcome == "right"
