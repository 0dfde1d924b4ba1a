"""Decontamination: drops documents with passages of evaluation sets, found by their hashes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from trainer.corpus.rules.evaluation_sets import read_examples
from trainer.corpus.rules.rule import Finding, Judgement, RuleDescription, kept
from trainer.corpus.rules.word_runs import Openings, RunTable, WordHashes, opened, rolled
from trainer.errors import RecipeError
from trainer.recipe.curation import DecontaminateRule

SHORTEST = 8
"""Examples of fewer words are left out: such runs of words occur by chance."""


class EvaluationIndex:
    """The passages of all sets as 64-bit hashes.

    Memory: 28 to 36 bytes a passage, three times as much during construction. Two different
    passages collide with a probability of about 2^-64: a trillion words against ten million
    passages give 0.5 false matches. `rows`: see `Decontaminate.guarded`. Raises RecipeError for two
    sets of one name, and what `read_examples` raises.
    """

    def __init__(self, section: DecontaminateRule):
        names = [wanted.name for wanted in section.sets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RecipeError(
                f"corpus.rules.decontaminate.sets: the name {twice!r} stands twice; rename one"
            )
        self._names = names
        self._words = section.words
        self._shortest = min(SHORTEST, section.words)
        self._hash = WordHashes()
        self.rows: list[dict[str, Any]] = []
        found: dict[int, list[tuple[np.ndarray, int]]] = {}
        openings: list[np.ndarray] = []
        for owner, wanted in enumerate(section.sets):
            examples = passages = too_short = 0
            for texts in read_examples(wanted):
                sizes = [self._collect(text, owner, found, openings) for text in texts]
                examples += 1
                passages += sum(sizes)
                too_short += not any(sizes)
            self.rows.append(
                {
                    "set": wanted.name,
                    "file": wanted.file,
                    "examples": examples,
                    "passages": passages,
                    "too_short": too_short,
                }
            )
        self._tables = {length: RunTable(parts) for length, parts in sorted(found.items())}
        self._openings = Openings(openings)

    def passages(self, text: str) -> Counter[str]:
        """The number of runs of words in the text that are passages of each set, by its name."""
        counts: Counter[str] = Counter()
        hashes = self._hash.of(text)
        # Nearly every document ends here: no passage begins as any of its runs of words does.
        starts = self._openings.beginnings_in(opened(hashes, self._shortest))
        if not len(starts):
            return counts
        for length, runs in rolled(hashes, starts, list(self._tables)):
            for owner in self._tables[length].owners(runs):
                counts[self._names[owner]] += 1
        return counts

    def _collect(
        self,
        text: str,
        owner: int,
        found: dict[int, list[tuple[np.ndarray, int]]],
        openings: list[np.ndarray],
    ) -> int:
        """Add a text's passages to `found` by length, and their openings; returns their number."""
        hashes = self._hash.of(text)
        length = min(len(hashes), self._words)
        if length < self._shortest:
            return 0
        starts = np.arange(len(hashes) - length + 1)
        ((_, runs),) = rolled(hashes, starts, [length])
        found.setdefault(length, []).append((runs, owner))
        openings.append(opened(hashes, self._shortest)[: len(runs)])
        return len(runs)


@dataclass(frozen=True)
class Decontaminate:
    """Drops documents with at least `matches` passages of the evaluation sets.

    A passage is a run of `words` words, compared without case, punctuation and white space; an
    example of fewer words is one passage, unless it has fewer than SHORTEST.
    """

    section: DecontaminateRule
    name: str = "decontaminate"

    def prepare(self) -> None:
        """Read the sets. Raises RecipeError or DataError for one that cannot be used."""
        _index_of(self.section)

    def guarded(self) -> list[dict[str, Any]]:
        """A row for each set: set, file, examples, passages, too_short (a number of examples)."""
        return _index_of(self.section).rows

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text."""
        if not self.section.sets:
            return kept(text)
        counts = _index_of(self.section).passages(text)
        if sum(counts.values()) < self.section.matches:
            return kept(text)
        findings = (
            Finding(
                "evaluation set",
                f"{name}: {count} passage{'s' * (count > 1)}",
                self.section.matches,
            )
            for name, count in counts.items()
        )
        return Judgement(None, tuple(findings))


@lru_cache(maxsize=2)
def _index_of(section: DecontaminateRule) -> EvaluationIndex:
    """The index of a section, built once a process: later changes of the files are not seen."""
    return EvaluationIndex(section)


def _sets_named(settings: Any) -> bool:
    return bool(settings.get("sets") if isinstance(settings, Mapping) else settings)


DESCRIPTION = RuleDescription(
    rules=lambda section: [Decontaminate(section)] if section.sets else [],
    behind_duplicates=True,
    summary="drops documents with a passage of 13 words of a named evaluation set",
    not_applied="evaluation sets were not kept out",
    limits="Contamination is found word for word: a paraphrase or translation of an evaluation"
    " set passes.",
    files=lambda section: [item.file for item in section.sets],
    had_work=_sets_named,
)
