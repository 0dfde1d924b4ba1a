"""How it is recognised that an answer is none: the model does not know, or says so of the thing.

A text is read clause by clause (`clauses.py`). It abstains where a clause says that the speaker
does not know, can not or will not say (`phrases/ignorance.txt`), or that the thing asked about does
not exist (`phrases/denial.txt`), or where it speaks of the speaker alone ("they never taught us
that"), and no other clause answers after all: "I'm not sure, but I think
it is Paris" is an answer, "I'm sorry, but I have no idea. Could you tell me more?" is none. Nothing
at all ("", "...", "N/A") is no answer either. The phrases are composed from what such sentences are
made of (who speaks, what is denied, of what), so that no list of wordings has to be complete.
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import and_
from typing import Literal

from trainer.evaluate.judging.clauses import clauses
from trainer.evaluate.judging.denial import denies
from trainer.evaluate.judging.expected import AskedAbout
from trainer.evaluate.judging.ignorance import (
    asks_back,
    knows_nothing,
    only_of_the_speaker,
)
from trainer.evaluate.judging.statement import (
    answers_after_all,
    hedges,
    is_a_bare_answer,
    is_background,
    names_what_was_asked,
    speaks_of_another,
)

Abstention = Literal["ignorance", "denial"]


def abstention(text: str, about: AskedAbout | None = None) -> Abstention | None:
    """Why a text is no answer: "ignorance", "denial" (no such thing exists), or None: it answers.

    English, in any case, with curly apostrophes or none. A text that first abstains and then
    answers anyway has answered; not so one that goes on to speak of another thing than the question
    is `about`.
    """
    read = clauses(text if about is None else about.marked(text))
    if not read:
        return "ignorance"
    ignorant = [knows_nothing(clause) for clause in read]
    denying = [denies(clause) for clause in read]
    abstaining = [one or other for one, other in zip(ignorant, denying, strict=True)]
    asking_back = [asks_back(clause) for clause in read]
    if not any(abstaining) and not any(asking_back) and not only_of_the_speaker(text, read):
        return None
    named = [no and names_what_was_asked(one) for one, no in zip(read, abstaining, strict=True)]
    # "Zambodia? Never heard of it": what is asked before an abstention is its echo; not so, where
    # the question is known and was of something else: "Paris? I do not know".
    hedged = [not no or hedges(one) for one, no in zip(read, abstaining, strict=True)]
    hedged_on = _all_from_each_on(hedged)
    unnamed_on = _all_from_each_on([not one for one in named])
    another = False
    for index, clause in enumerate(read):
        before = read[index - 1] if index else None
        another = about is not None and speaks_of_another(clause, before, about, another)
        repeats = about is not None and about.is_all_of(clause.text)
        echo = clause.asks and not hedged_on[index]
        if about is not None and is_a_bare_answer(clause.text):
            echo = echo and about.named_in(clause.text)
        silent = abstaining[index] or asking_back[index] or echo or repeats
        background = not unnamed_on[index] and is_background(clause, about)
        if not (silent or another or background) and answers_after_all(clause):
            return None
    return "denial" if any(denying) else "ignorance"


def _all_from_each_on(held: Sequence[bool]) -> list[bool]:
    """Whether all of it holds from each place to the end."""
    return list(accumulate(reversed(held), and_))[::-1]
