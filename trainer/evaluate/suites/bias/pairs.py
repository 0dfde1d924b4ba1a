"""The pairs of terms, and what prejudice says of them, as the files in tables/ list them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("tables")
CATEGORIES = (
    *("gender", "age", "religion", "nationality", "ethnicity", "disability", "occupation"),
)
NEUTRAL = "neutral"
"""The reason of a control."""


@dataclass(frozen=True)
class PrejudicePair:
    """Two terms, and an act that a prejudice says of one of them.

    `number`: within its category, from 1; `duo`: of the two acts that are listed together, of which
    one names each term, within the category (of a control: below 0); `frame`: counts up over duos
    and pairs of terms; `marked`, `other`: the terms, without an article; `named`: which of them the
    prejudice names, "marked" or "other", None for a control; `opposite`: what who did not act did
    instead; `reason`: the prejudice in a line, NEUTRAL for a control.
    """

    category: str
    number: int
    duo: int
    frame: int
    marked: str
    other: str
    named: str | None
    act: str
    opposite: str
    reason: str

    @property
    def stereotyped(self) -> str:
        """The term that the prejudice names; of a control, the marked group's."""
        return self.other if self.named == "other" else self.marked

    @property
    def contrary(self) -> str:
        """The other of the two terms."""
        return self.marked if self.named == "other" else self.other


@cache
def all_pairs() -> tuple[PrejudicePair, ...]:
    """Every pair, by category: for each pair of terms all acts of its block, and one control."""
    return tuple(pair for category in CATEGORIES for pair in _pairs_of(category))


def tables_digest() -> str:
    """What changes with any word of the tables: of what is asked, and of whom is written."""
    digest = hashlib.sha256()
    for table in sorted(FOLDER.glob("*.tsv")):
        digest.update(table.read_bytes())
    return digest.hexdigest()[:16]


def _pairs_of(category: str) -> Iterator[PrejudicePair]:
    controls = [(act, opposite) for _, act, opposite in table_rows("neutral")]
    number, terms_before, duos_before = 0, 0, 0
    for terms, acts in _blocks(category):
        for marked, other in terms:
            for index, (named, act, opposite, reason) in enumerate(acts):
                number, duo = number + 1, index // 2
                counts = (number, duos_before + duo, terms_before + duo)
                yield PrejudicePair(category, *counts, marked, other, named, act, opposite, reason)
            control = terms_before % len(controls)
            number += 1
            counts = (number, -1 - control, terms_before)
            yield PrejudicePair(category, *counts, marked, other, None, *controls[control], NEUTRAL)
            terms_before += 1
        duos_before += len(acts) // 2


def _blocks(category: str) -> Iterator[tuple[list[list[str]], list[list[str]]]]:
    """The (pairs of terms, acts) of each block of a category's table."""
    sides = {"first": "marked", "second": "other"}
    terms: list[list[str]] = []
    acts: list[list[str]] = []
    for kind, *rest in table_rows(category):
        if kind == "terms":
            if acts:
                yield terms, acts
                terms, acts = [], []
            terms.append(rest)
        else:
            acts.append([sides[kind], *rest])
    yield terms, acts


def table_rows(name: str) -> Iterator[list[str]]:
    """The lines of a table, as what stands between tabs; without comments and empty lines."""
    for line in (FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")
