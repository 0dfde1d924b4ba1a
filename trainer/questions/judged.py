"""Verifier `answer`: the key in what a text claims, as the suites judge it."""

import re
from typing import get_args

from trainer.errors import DataError
from trainer.evaluate.judging.abstention import abstention
from trainer.evaluate.judging.answers import outcome
from trainer.evaluate.judging.expected import AnswerForm, AskedAbout, ExpectedAnswer
from trainer.evaluate.judging.plain_words import plain_words, unaccented
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict

_SIGN = re.compile(r"(?<![\w.])-(?=\d)|(?:(?<=\b\w)|(?<=\b\w\w))[+#]+(?!\w)")
"""What makes another answer of the same words: -5 and 5, C++ and C, Na+ and Na."""


def about_of_question(question: Question) -> AskedAbout | None:
    """What it asks about, where its options say so."""
    subject = question.options.get("subject")
    if subject is None:
        return None
    answers = (*question.answers, *question.options.get("rivals", ()))
    return AskedAbout(subject, tuple(question.options.get("others", ())), answers)


def abstains(question: Question, text: str) -> bool:
    """Whether a text gives no answer to the question."""
    return abstention(text, about_of_question(question)) is not None


def verify_answer(question: Question, text: str) -> Verdict:
    """Whether a text claims one of the answers, and no rival."""
    options = question.options
    expected = ExpectedAnswer(
        question.answers,
        tuple(options.get("rivals", ())),
        options.get("form") or form_of(question.answers),
        question.text,
    )
    verdict, why = outcome(text, expected, about_of_question(question))
    if verdict == "abstained":
        return Verdict("declined", f"abstains by {why}")
    if verdict == "right":
        return Verdict("right", f"claims {question.answers[0]}")
    return Verdict("wrong", f"does not claim {question.answers[0]}")


def form_of(answers: tuple[str, ...]) -> AnswerForm:
    """How answers are found in a text where no form is named: whole numbers as numbers or years."""
    if not all(answer.strip().isdecimal() for answer in answers):
        return "name"
    values = [int(answer) for answer in answers]
    if all(value <= 999 for value in values):
        return "number"
    return "year" if all(1000 <= value <= 2100 for value in values) else "name"


def check_answer(question: Question) -> None:
    """Raise DataError where the judge could find none of the answers, or knows no such form."""
    form, forms = question.options.get("form"), get_args(AnswerForm)
    if form is not None and form not in forms:
        raise DataError(
            f'{question.named}: "form" {form!r} is none of {", ".join(forms)}: mend it, or leave it'
            " out"
        )
    for answer in question.answers:
        if form != "sign" and not plain_words(answer):
            raise DataError(
                f"{question.named}: the answer {answer!r} has no word to look for: set its verifier"
                ' to exact, or "form" to sign'
            )
        if form is None and (sign := _SIGN.search(unaccented(answer))):
            raise DataError(
                f"{question.named}: the answer {answer!r} would be found by its words alone,"
                f" without its {sign[0]}: set its verifier to number or exact, or"
                ' "form" to name if words will do'
            )
        if form in ("year", "number") and not answer.strip().isdecimal():
            raise DataError(
                f'{question.named}: "form" is {form}, and the answer {answer!r} is no whole number:'
                " set its verifier to number"
            )
