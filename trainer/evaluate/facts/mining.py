"""Facts of a corpus: found in the beginning of its training text, counted in all of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.corpus.rules.word_runs import words_of
from trainer.evaluate.corpora import SearchableText, documents_up_to
from trainer.evaluate.facts.statements import CLOZE, Statement, statements
from trainer.evaluate.occurrence_buckets import bucket_of
from trainer.evaluate.search_cache import cached_search

RULES = 2
"""Raised whenever the same text would give other facts."""
MINED_CHARACTERS = 16_000_000
"""Facts are found in so much of the training text; they are counted in all of it."""
MOST_FACTS = 20_000
"""Facts that are counted; of more, those whose words come first by their hash."""
WORDINGS = 3
FOLLOWS = 0.25
"""A cloze's object follows from its subject if this share of the subject's sentences has it."""


@dataclass(frozen=True)
class CountedFact:
    """A fact, and how often the training text states it.

    `prefix`: what stands before the object, in the wording of the last document that states it in
    words of its own; `occurrences`: sentences of training documents that hold subject and object.
    """

    kind: str
    subject: str
    object: str
    prefix: str
    occurrences: int

    @property
    def bucket(self) -> str:
        """The name of its group of occurrences."""
        name = bucket_of(self.occurrences)
        assert name is not None, "facts that are nowhere are left out"
        return name


def mined_facts(own: SearchableText) -> list[CountedFact]:
    """The facts of a corpus, each subject with one object of a kind alone; in the text's order.

    Of large corpora a fact that stands there often is the likelier to be in the part that is read.
    """
    found: list[tuple[str, str, str, str]] = cached_search(
        ["facts", RULES, own.fingerprint], lambda: _stated(own)
    )
    facts = [(subject, obj) for _, subject, obj, _ in found]
    both = own.together(facts + [(subject, subject) for subject, _ in facts])
    counts, of_subject = both[: len(facts)], both[len(facts) :]
    return [
        CountedFact(*fact, count)
        for fact, count, subject_count in zip(found, counts, of_subject, strict=True)
        if count and (_is_pattern(fact[0]) or count >= FOLLOWS * subject_count)
    ]


def _is_pattern(kind: str) -> bool:
    return not kind.startswith(CLOZE)


def _stated(own: SearchableText) -> list[list[str]]:
    """[kind, subject, object, prefix] of the facts found."""
    documents, of_documents = _document_counts(own)
    wordings: dict[tuple[str, str, str], list[Statement]] = {}
    objects: dict[tuple[str, str], set[str]] = {}
    for document in documents_up_to(own, MINED_CHARACTERS):
        for statement in statements(document.text, documents, of_documents):
            kind, subject, obj = statement.key
            seen = wordings.setdefault(statement.key, [])
            fresh = all(statement.prefix != one.prefix for one in seen)
            if fresh and len(seen) < WORDINGS:
                seen.append(statement)
            objects.setdefault((kind, subject), set()).add(obj)
    # A question with two answers has no wrong ones to count.
    keys = [key for key in wordings if len(objects[key[0], key[1]]) == 1]
    if len(keys) > MOST_FACTS:
        order = np.random.default_rng(0).permutation(len(keys))[:MOST_FACTS]
        keys = [keys[number] for number in sorted(order.tolist())]
    last = [wordings[key][-1] for key in keys]
    return [[one.kind, one.subject, one.object, one.prefix] for one in last]


def _document_counts(own: SearchableText) -> tuple[Counter[str], int]:
    """How many of the documents that are read hold each word, and how many documents those are."""
    counts: Counter[str] = Counter()
    documents = 0
    for document in documents_up_to(own, MINED_CHARACTERS):
        counts.update(set(words_of(document.text)))
        documents += 1
    return counts, documents


def rivals_of(
    facts: Sequence[CountedFact], fewest: int, dice: Any, chosen: Iterable[int] | None = None
) -> dict[int, list[str]]:
    """For each fact, by its index, `fewest` objects of other facts of its kind, drawn by `dice`.

    A fact whose kind has too few different objects is left out; `chosen`: for these indices alone.
    """
    by_kind: dict[str, dict[str, str]] = {}
    for fact in facts:
        objects = by_kind.setdefault(fact.kind, {})
        objects.setdefault(" ".join(words_of(fact.object)), fact.object)
    found = {}
    for number in range(len(facts)) if chosen is None else chosen:
        fact = facts[number]
        own = " ".join(words_of(fact.object))
        others = [shown for words, shown in by_kind[fact.kind].items() if words != own]
        if len(others) >= fewest:
            drawn = dice.choice(len(others), fewest, replace=False)
            found[number] = [others[position] for position in drawn.tolist()]
    return found
