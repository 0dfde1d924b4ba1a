"""Text that suites search: the run's own corpora, or files and corpora named in their place."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class SearchedDocument(NamedTuple):
    """A document: its id in the corpus, the name of its source, its split, its text."""

    id: str
    source: str
    split: str
    text: str


class SearchableText(Protocol):
    """Documents that can be read in order, counted and searched."""

    @property
    def names(self) -> tuple[str, ...]:
        """The sources' names, as a mixture has them."""

    @property
    def fingerprint(self) -> str:
        """What changes with any document."""

    def documents(self, split: str) -> Iterator[SearchedDocument]:
        """The documents of "train" or "validation", in the corpus's order."""

    def occurrences(self, passages: Sequence[str]) -> list[int]:
        """How many training documents hold each passage; white space and case aside."""

    def holding(self, passages: Sequence[str], limit: int = 5) -> list[list[str]]:
        """For each passage, ids of the first training documents that hold it."""
