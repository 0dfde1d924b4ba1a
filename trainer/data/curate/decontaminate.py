"""Keeps evaluation sets out of the corpus: documents that share a run of words with one go."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from trainer.data.curate.guard import Guard
from trainer.data.curate.rule import Finding, Outcome, kept
from trainer.recipe.curation import DecontaminateRule


@dataclass(frozen=True)
class Decontaminate:
    """Drops documents with as many passages of the evaluation sets as the recipe names.

    A passage is a run of `words` words, whatever their case, punctuation and white space; an
    example of fewer words is one passage as it is, unless it is too short (guard.SHORTEST).
    """

    section: DecontaminateRule
    name: str = "decontaminate"

    def prepare(self) -> None:
        """Read the sets; raises RecipeError or DataError for one that cannot be used."""
        _guard_of(self.section)

    def guarded(self) -> list[dict[str, Any]]:
        """A row a set: set, file, examples, passages, and how many examples are too_short."""
        return _guard_of(self.section).rows

    def __call__(self, text: str, document: str) -> Outcome:
        """Judge one text."""
        if not self.section.sets:
            return kept(text)
        counts = _guard_of(self.section).passages(text)
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
        return Outcome(None, tuple(findings))


@lru_cache(maxsize=2)
def _guard_of(section: DecontaminateRule) -> Guard:
    """Read once a process; the files are taken not to change meanwhile."""
    return Guard(section)
