"""Clauses that say: I do not know, I can not or will not say, nobody can."""

import re
from collections.abc import Sequence

from trainer.evaluate.judging.clauses import Clause, clauses
from trainer.evaluate.judging.phrases import phrase

_NAME = re.compile(r"(?<=[\w,;] )[A-Z]\w*|\d")
"""A word with a capital that does not begin its sentence, or a number."""

_COMMAS = str.maketrans({"(": ", ", ")": ","})


def knows_nothing(clause: Clause) -> bool:
    """Whether a clause says that its speaker does not know or will not say, or that nobody can."""
    if phrase("ignorance", "no_refusal").search(clause.text):
        return False
    ways = ("speaker", "dropped", "apology", "thing_is_unknown")
    return any(phrase("ignorance", way).search(clause.text) for way in ways)


def asks_back(clause: Clause) -> bool:
    """Whether a clause asks for a better question, or supposes a mistake in this one."""
    return bool(phrase("ignorance", "asks_back").search(clause.text))


def only_of_the_speaker(text: str, read: Sequence[Clause]) -> bool:
    """Whether a text speaks of its speaker and holds no word that could be an answer.

    "They never taught us that", "I have a bad memory for names". `read`: its clauses. What stands
    in brackets is read, too: "I would say (Paris)".
    """
    if "(" in text:
        text = text.translate(_COMMAS)
        read = clauses(text)
    whole = " ".join(clause.text for clause in read)
    # A word by itself may be a symbol or a code: "I", "we".
    if " " not in whole or not phrase("ignorance", "first_person").search(whole):
        return False
    named = [] if text.isupper() else [found.group() for found in _NAME.finditer(text)]
    if any(phrase("ignorance", "no_answer_name").fullmatch(name) is None for name in named):
        return False
    about_words = (phrase("ignorance", "no_answer_word"), phrase("statement", "about_word"))
    return all(
        any(pattern.fullmatch(word) for pattern in about_words)
        for word in whole.replace(",", " ").split()
    )
