"""Clauses that say: I do not know, I can not or will not say, nobody can."""

from trainer.evaluate.judging.clauses import Clause
from trainer.evaluate.judging.phrases import phrase


def knows_nothing(clause: Clause) -> bool:
    """Whether a clause says that its speaker does not know or will not say, or that nobody can."""
    if phrase("ignorance", "no_refusal").search(clause.text):
        return False
    ways = ("speaker", "dropped", "apology", "thing_is_unknown")
    return any(phrase("ignorance", way).search(clause.text) for way in ways)


def asks_back(clause: Clause) -> bool:
    """Whether a clause asks for a better question, or supposes a mistake in this one."""
    return bool(phrase("ignorance", "asks_back").search(clause.text))
