"""Questions about what a corpus says, with the answer that its text gives.

Of the facts that the suite `occurrence` mines, those of sentences that make a question with one
answer: "The capital of Ruva is Orlo." Left out are clozes and "X is a Y", which a text completes
otherwise without being wrong: what is judged by them would be taught.
"""

import re
from collections.abc import Sequence

import numpy as np

from trainer.evaluate.corpora import SearchableText
from trainer.evaluate.facts.mining import CountedFact, mined_facts, rivals_of
from trainer.evaluate.occurrence_buckets import shared_out
from trainer.questions.question import Question

MOST_RIVALS = 15
"""Other answers of the same kind, by which a wrong claim is told."""
FACT_QUESTIONS = 1000
"""Questions that are asked; of more, as many of each kind as can be, chosen by draw."""

_ASKED = {
    "capital": "What is the capital of {}?",
    "born in the year": "In which year was {} born?",
    "born in": "In which place was {} born?",
    "founded in": "In which year was {} founded?",
    "located in": "Where is {} located?",
}
_MADE = re.compile(r"\bwas\s+(?P<verb>[a-z]+)\s+by$")
_IS = re.compile(r"\b(?P<verb>is|was)$")


def fact_questions(own: SearchableText, seed: int, most: int = FACT_QUESTIONS) -> list[Question]:
    """Questions about the facts of a corpus, each with its answer, its subject and rivals.

    `kind`: "corpus: " and the kind of fact. In the corpus's order; [] where it states none.
    """
    asked = [fact for fact in mined_facts(own) if _question_text(fact) is not None]
    draws = np.random.default_rng(seed)
    by_kind: dict[str, list[CountedFact]] = {}
    for fact in asked:
        by_kind.setdefault(fact.kind, []).append(fact)
    shares = shared_out(most, [len(facts) for facts in by_kind.values()])
    found = []
    for facts, share in zip(by_kind.values(), shares, strict=True):
        chosen = sorted(draws.permutation(len(facts))[:share].tolist())
        rivals = _rivals(facts, chosen, draws)
        found += [_question(facts[number], rivals[number]) for number in chosen]
    return found


def _rivals(
    facts: Sequence[CountedFact], chosen: Sequence[int], draws: np.random.Generator
) -> dict[int, list[str]]:
    """For each chosen fact as many other objects of its kind as there are, at most `MOST_RIVALS`.

    Rivals are sought for no others: each costs a look at all facts of its kind.
    """
    for fewest in range(MOST_RIVALS, 0, -1):
        found = rivals_of(facts, fewest, draws, chosen)
        if len(found) == len(chosen):
            return found
    return {number: [] for number in chosen}


def _question(fact: CountedFact, rivals: Sequence[str]) -> Question:
    text = _question_text(fact)
    assert text is not None, "only such facts come here"
    options = {"subject": fact.subject, "rivals": list(rivals)}
    if fact.object.isdecimal() and fact.kind in ("born in the year", "founded in", "died in"):
        options["form"] = "year"
    kind = f"corpus: {fact.kind}"
    return Question(f"{kind}/{fact.subject}", text, (fact.object,), options=options, kind=kind)


def _question_text(fact: CountedFact) -> str | None:
    """The question that a fact answers; None for kinds that make none."""
    if fact.kind in _ASKED:
        return _ASKED[fact.kind].format(fact.subject)
    if fact.kind == "died in":
        return f"{'In which year' if fact.object.isdecimal() else 'Where'} did {fact.subject} die?"
    if fact.kind == "made by" and (made := _MADE.search(fact.prefix)):
        return f"By whom was {fact.subject} {made['verb']}?"
    if fact.kind.startswith("property: ") and (verb := _IS.search(fact.prefix)):
        relation = fact.kind.removeprefix("property: ")
        return f"What {verb['verb']} the {relation} of {fact.subject}?"
    return None
