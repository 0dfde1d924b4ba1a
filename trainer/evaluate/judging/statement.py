"""Clauses that answer, in a text that abstains elsewhere: "..., but it is probably Paris"."""

from trainer.evaluate.judging.clauses import Clause
from trainer.evaluate.judging.expected import ANOTHER, AskedAbout
from trainer.evaluate.judging.phrases import phrase

LONGEST_NAME = 4
"""Words of a bare name or number, as in "I don't know. Rio de Janeiro?"."""


def is_as_short_as_a_name(text: str) -> bool:
    """Whether text has no more words than a bare name or number may have."""
    return len(text.split()) <= LONGEST_NAME


def hedges(clause: Clause) -> bool:
    """Whether a clause doubts what was just said, without taking it back."""
    return bool(phrase("statement", "hedge").search(clause.text))


def speaks_of_another(
    clause: Clause, earlier: Clause | None, about: AskedAbout, before: bool
) -> bool:
    """Whether a clause speaks of another thing than the one asked about.

    "The capital of Nicaragua is Managua", "Did you mean Slovenia?"; where the clause
    `earlier` did (`before`), so does "Its capital is Ljubljana", and where it ended in the other's
    name, so does "whose capital is Ljubljana". The clauses are of the text that `about` marked.
    """
    if (
        earlier
        and earlier.text.endswith(ANOTHER)
        and phrase("statement", "relative").search(clause.text)
    ):
        return True
    if about.named_in(clause.text):
        return False
    if phrase("statement", "means_another").search(clause.text):
        return True
    if before and phrase("statement", "of_the_same").search(clause.text):
        return True
    if phrase("statement", "pronoun").search(clause.text):
        return False
    return bool(phrase("statement", "of_another").search(clause.text))


def names_what_was_asked(clause: Clause) -> bool:
    """Whether an abstaining clause says of what: "I do not know its capital", not "I am unsure"."""
    return bool(phrase("statement", "of_what_was_asked").search(clause.text))


def is_background(clause: Clause, about: AskedAbout | None) -> bool:
    """Whether a clause tells of a thing but not what was asked: "Estovenia is a small country".

    Only before an abstention that names what was asked. What names an answer of the kind that was
    asked for is none: "Lyonne is a city in France. I do not know who founded it."
    """
    text = phrase("statement", "sort").sub("of a sort", clause.text)
    return not (
        is_as_short_as_a_name(text)
        or phrase("statement", "guess").search(text)
        or phrase("statement", "gives_it").search(text)
        or (about is not None and _answers_of(clause, about))
    )


def _answers_of(clause: Clause, about: AskedAbout) -> bool:
    """Whether a clause names an answer, and not of another thing than the one asked about."""
    of_another = ANOTHER in clause.text and not about.named_in(clause.text)
    return about.answered_in(clause.text) and not of_another


def answers_after_all(clause: Clause) -> bool:
    """Whether a clause gives an answer: a guess, a statement about the thing, or a bare name."""
    text = clause.text
    if phrase("statement", "supposes").search(text):
        return False
    if phrase("statement", "broken_off").search(text):
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
    return bool(asserts) or is_a_bare_answer(text)


def is_a_bare_answer(text: str) -> bool:
    """Whether a clause is as short as a name, and not of the speaker: "no one told me"."""
    of_the_speaker = phrase("ignorance", "first_person").search(text.partition(",")[0])
    return " " not in text or (is_as_short_as_a_name(text) and not of_the_speaker)
