"""Verifier `answer`: the key in what a text claims, as the suites judge it."""

from typing import get_args

from trainer.errors import DataError
from trainer.evaluate.judging.abstention import abstention
from trainer.evaluate.judging.answers import is_right, outcome
from trainer.evaluate.judging.expected import AnswerForm, AskedAbout, ExpectedAnswer
from trainer.evaluate.judging.plain_words import plain_words
from trainer.questions.marks import lost_mark, signed
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict


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
    if verdict == "right" and not _is_another(text, expected):
        return Verdict("right", f"claims {question.answers[0]}")
    return Verdict("wrong", f"does not claim {question.answers[0]}")


def _is_another(text: str, expected: ExpectedAnswer) -> bool:
    """Whether a sign that no answer has makes another of what a text claims: C++ of C, -7 of 7."""
    marked = signed(text)
    told = marked != text and all(signed(answer) == answer for answer in expected.right)
    return told and not is_right(marked, expected)


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
        if form is None and (mark := lost_mark(answer)):
            raise DataError(
                f"{question.named}: the answer {answer!r} would be found by its words alone,"
                f" without its {mark!r}: set its verifier to number or exact, or"
                ' "form" to name if words will do'
            )
        if form in ("year", "number") and not answer.strip().isdecimal():
            raise DataError(
                f'{question.named}: "form" is {form}, and the answer {answer!r} is no whole number:'
                " set its verifier to number"
            )
