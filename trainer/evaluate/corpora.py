"""Text that suites search: the run's own corpora, or files and corpora named in their place."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from trainer.corpus.build.canaries import Canary
from trainer.corpus.inspect.passage_index import PassageIndex

HELD = 5
"""Documents that are named for a passage, if not asked for more."""


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
        """How many training documents hold each passage, as whole words.

        White space, case and punctuation play no part; a passage without a word is held by none.
        """

    def holding(self, passages: Sequence[str], limit: int = HELD) -> list[list[str]]:
        """For each passage, ids of the first training documents that hold it, as `occurrences`."""

    def together(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """In how many sentences of training documents both passages of each pair stand."""

    def canaries(self) -> list[tuple[str, Canary]]:
        """What was planted in it on purpose, each with its source's name."""


def documents_up_to(text: SearchableText, characters: int) -> Iterator[SearchedDocument]:
    """The first training documents, until they have so many characters."""
    count = 0
    for document in text.documents("train"):
        yield document
        count += len(document.text)
        if count >= characters:
            return


@dataclass
class PassageTally:
    """How many documents hold each of `passages`, and the ids of the first `limit` of them.

    `counts`, `holders`: one of each a passage, in their order.
    """

    passages: int
    limit: int
    counts: list[int] = field(init=False)
    holders: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * self.passages
        self.holders = [[] for _ in range(self.passages)]

    def add(self, passage: int, count: int, ids: Iterable[str]) -> None:
        """Count documents that hold a passage; `ids`: of the first of them."""
        self.counts[passage] += count
        room = self.limit - len(self.holders[passage])
        self.holders[passage] += list(ids)[:room]

    def look(self, index: PassageIndex, text: str, document: str) -> None:
        """Count the document `document` for the passages of `index` that its text holds."""
        for passage in index.found_in(text):
            self.add(passage, 1, [document])
