"""How it is recognised that an answer says: the passage does not tell.

As `abstention`, for answers about a text that was given: "The passage does not say", "That isn't
mentioned", "It tells when it was built, but not by whom" (`phrases/silence.txt`). A text that says
so and then answers from elsewhere ("..., but it is probably 1912"), or that answers and says so of
something else ("1820, though it does not say who built it"), has answered.
"""

import re

from trainer.evaluate.judging.clauses import Clause, clauses
from trainer.evaluate.judging.phrases import phrase
from trainer.evaluate.judging.statement import LONGEST_NAME, answers_after_all

_YET = re.compile(
    r"\b(?:but|however|though|although|still|yet)\b(?:(?!\bnot\b|n't)[^.;\n]){0,60}?"
    r"\b(?:probably|likely|perhaps|approximately|about \d|around \d|i think|i believe|i know"
    r"|i would|in reality|in fact|general knowledge|(?:generally|widely|well) known|known to be"
    r"|known that|my knowledge|outside)\b"
)


def says_nothing_of_it(text: str) -> bool:
    """Whether an answer says that the passage does not tell, and does not answer all the same."""
    read = [one for one in clauses(text) if not phrase("silence", "no_silence").search(one.text)]
    if not phrase("silence", "silence").search(" / ".join(one.text for one in read)):
        return False
    return not _YET.search(text.casefold()) and not any(_is_a_bare_answer(one) for one in read)


def _is_a_bare_answer(clause: Clause) -> bool:
    """Whether a clause is a bare answer: "1820, although the passage does not say who built it"."""
    if len(clause.text.split()) > LONGEST_NAME or phrase("silence", "silence").search(clause.text):
        return False
    return not phrase("silence", "of_the_text").search(clause.text) and answers_after_all(clause)
