"""Clauses that say: there is no such thing as the question asks about."""

from trainer.evaluate.judging.clauses import Clause
from trainer.evaluate.judging.phrases import phrase


def denies(clause: Clause) -> bool:
    """Whether a clause says that what is asked about does not exist."""
    found = phrase("denial", "denial").search(clause.text)
    return bool(found) and not phrase("denial", "no_denial").search(clause.text)
