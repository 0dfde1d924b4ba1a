"""Clauses that answer, in a text that abstains elsewhere: "..., but it is probably Paris"."""

from trainer.evaluate.judging.clauses import Clause
from trainer.evaluate.judging.phrases import phrase

LONGEST_NAME = 4
"""Words of a bare name or number, as in "I don't know. Rio de Janeiro?"."""


def hedges(clause: Clause) -> bool:
    """Whether a clause doubts what was just said, without taking it back."""
    return bool(phrase("statement", "hedge").search(clause.text))


def answers_after_all(clause: Clause) -> bool:
    """Whether a clause gives an answer: a guess, a statement about the thing, or a bare name."""
    text = clause.text
    if phrase("statement", "supposes").search(text):
        return False
    if phrase("statement", "comes_to_mind").search(text):
        return True
    about_the_answer = phrase("statement", "about_the_answer")
    guess = phrase("statement", "guess").search(text)
    if guess and text[guess.end() :].strip(" ,"):
        return not about_the_answer.search(text[guess.end() :])
    if about_the_answer.search(text) or phrase("statement", "not_about_the_thing").search(text):
        return False
    asserts = phrase("statement", "asserts").search(text) and not clause.asks
    return bool(asserts) or _is_a_bare_answer(text)


def _is_a_bare_answer(text: str) -> bool:
    """Whether a clause is as short as a name, and not of the speaker: "no one told me"."""
    words = text.split()
    of_the_speaker = phrase("ignorance", "first_person").search(text.partition(",")[0])
    return len(words) == 1 or (len(words) <= LONGEST_NAME and not of_the_speaker)
