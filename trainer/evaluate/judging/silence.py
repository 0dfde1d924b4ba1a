"""How it is recognised that an answer says: the passage does not tell.

As `abstention`, for answers about a text that was given: "The passage does not say", "That isn't
mentioned", "It tells when it was built, but not by whom" (`phrases/silence.txt`). A text that says
so and then answers from elsewhere ("..., but it is probably 1912"), or that answers and says so of
something else ("1820, though it does not say who built it"), has answered.
"""

import re

from trainer.evaluate.judging.clauses import Clause, clauses
from trainer.evaluate.judging.phrases import phrase
from trainer.evaluate.judging.statement import answers_after_all, is_as_short_as_a_name

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
    return not _YET.search(text.casefold()) and not any(_answers_briefly(one) for one in read)


def _answers_briefly(clause: Clause) -> bool:
    """Whether a clause is a bare answer: "1820, although the passage does not say who built it"."""
    of_the_text = any(
        phrase("silence", section).search(clause.text) for section in ("silence", "of_the_text")
    )
    return not of_the_text and is_as_short_as_a_name(clause.text) and answers_after_all(clause)
