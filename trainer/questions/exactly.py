"""Verifier `exact`: a text that is the key, letter by letter.

Compared are texts without white space around, a final full stop, and what is paired around the
whole of them where the key is not (quotation marks, Markdown's `*`, `_` and backticks), with plain
quotes and hyphens, without accents, one space between words, in lower case unless the item's
`case_sensitive` is true. Articles, signs and the punctuation inside stay: "C++" is not "C", "the
Who" is not "Who", "-5" is not "5", "*args" and "__init__" are not "args" and "init".
"""

import re
from collections.abc import Iterator

from trainer.errors import DataError
from trainer.evaluate.judging.plain_words import unaccented
from trainer.questions.marks import with_powers
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict

_PAIRS = ("***", "**", "*", "_", "'''", "''", "'", '"')
"""What may stand around a text; `unaccented` makes an apostrophe of a backtick."""
_LAYERS = 4
"""Pairs that are taken off at most: as of a quotation in code in bold, and one more."""
_FINAL = re.compile(r"(?<=[^.])\.$")
"""One full stop; an ellipsis stays."""


def compared(text: str, case_sensitive: bool = False) -> str:
    """The form in which texts are compared where nothing around them counts."""
    return list(_layers(text, case_sensitive))[-1]


def verify_exact(question: Question, text: str) -> Verdict:
    """Whether a text is one of the answers."""
    case_sensitive = bool(question.options.get("case_sensitive", False))
    keys = {_as_written(answer, case_sensitive): answer for answer in question.answers}
    layers = _layers(text, case_sensitive)
    found = next((keys[layer] for layer in layers if layer in keys), None)
    if found is None:
        return Verdict("wrong", f"is not {question.answers[0]!r} alone")
    return Verdict("right", f"is {found!r}")


def check_exact(question: Question) -> None:
    """Raise DataError for an answer of which nothing is left to compare."""
    for answer in question.answers:
        if not _as_written(answer):
            raise DataError(
                f"{question.named}: the answer {answer!r} is empty in the form that verifier exact"
                " compares: give a pattern and verifier regex"
            )


def _as_written(answer: str, case_sensitive: bool = False) -> str:
    return next(_layers(answer, case_sensitive))


def _layers(text: str, case_sensitive: bool) -> Iterator[str]:
    """A text in the form that is compared, as it stands, then without each pair around it."""
    plain = " ".join(unaccented(with_powers(text)).split())
    bare = _FINAL.sub("", plain if case_sensitive else plain.casefold())
    yield bare
    for _ in range(_LAYERS):
        inside = _FINAL.sub("", _without_pair(bare))
        if inside == bare:
            return
        bare = inside
        yield bare


def _without_pair(bare: str) -> str:
    for mark in _PAIRS:
        inside = bare[len(mark) : -len(mark)]
        paired = bare == f"{mark}{inside}{mark}" and inside.strip()
        if paired and mark[0] not in (inside[0], inside[-1]):
            return inside.strip()
    return bare
