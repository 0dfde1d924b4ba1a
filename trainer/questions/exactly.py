"""Verifier `exact`: a text that is the key, letter by letter.

Compared are texts without what surrounds them (white space, quotation marks, Markdown's `*`, `_`
and backticks, a final full stop), with plain quotes and hyphens, without accents, one space between
words, in lower case unless the item's `case_sensitive` is true. Articles, signs and the
punctuation inside stay: "C++" is not "C", "the Who" is not "Who", "-5" is not "5".
"""

import re

from trainer.errors import DataError
from trainer.evaluate.judging.plain_words import unaccented
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict

_AROUND = " \t\r\n\"'`*_"
_FINAL = re.compile(r"(?<=[^.])\.$")
"""One full stop; an ellipsis stays."""


def compared(text: str, case_sensitive: bool = False) -> str:
    """The form in which texts are compared."""
    plain = " ".join(unaccented(text).split()).strip(_AROUND)
    plain = _FINAL.sub("", plain).strip(_AROUND)
    return plain if case_sensitive else plain.casefold()


def verify_exact(question: Question, text: str) -> Verdict:
    """Whether a text is one of the answers."""
    case_sensitive = bool(question.options.get("case_sensitive", False))
    keys = {compared(answer, case_sensitive): answer for answer in question.answers}
    found = keys.get(compared(text, case_sensitive))
    if found is None:
        return Verdict("wrong", f"is not {question.answers[0]!r} alone")
    return Verdict("right", f"is {found!r}")


def check_exact(question: Question) -> None:
    """Raise DataError for an answer of which nothing is left to compare."""
    for answer in question.answers:
        if not compared(answer):
            raise DataError(
                f"{question.named}: the answer {answer!r} is empty in the form that verifier exact"
                " compares: give a pattern and verifier regex"
            )
