"""Removal of duplicates: exact ones by hash, near ones by MinHash and locality-sensitive hashing.

Source: A. Broder, "On the resemblance and containment of documents", 1997; the sketches and the
index are rensa's.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator

import rensa

from trainer.data.documents import Document, Ledger

PERMUTATIONS = 128
SHINGLE_WORDS = 3
BATCH = 512
WORD = re.compile(r"\w+|[^\w\s]")


def remove_duplicates(
    documents: Iterable[Document], threshold: float, seed: int, ledger: Ledger
) -> Iterator[Document]:
    """Pass on each document unless one before it has the same or nearly the same body: the first is
    kept.

    Two bodies are near duplicates when the estimated Jaccard similarity of their sets of three-word
    shingles is at least `threshold`. The estimate has a standard error of sqrt(J(1-J)/128), 0.035
    at J = 0.8. Memory: about a kilobyte for each document kept.
    """
    first: dict[bytes, str] = {}
    index = rensa.RMinHashLSH(threshold, PERMUTATIONS, _bands(threshold))
    kept: list[tuple[str, rensa.RMinHash]] = []
    for batch in _batches(documents):
        sketches = rensa.RMinHash.from_token_sets(
            [_shingles(document.body) for document in batch], PERMUTATIONS, seed
        )
        for document, sketch in zip(batch, sketches, strict=True):
            digest = hashlib.sha256(" ".join(document.body.split()).encode()).digest()[:16]
            if digest in first:
                ledger.drop("duplicate", id=document.id, kept=first[digest])
                continue
            # The index answers in no fixed order: of several matches the earliest is named.
            matches = ((key, kept[key][1].jaccard(sketch)) for key in sorted(index.query(sketch)))
            match = next((pair for pair in matches if pair[1] >= threshold), None)
            if match is not None:
                similarity = round(match[1], 3)
                ledger.drop(
                    "near duplicate",
                    id=document.id,
                    kept=kept[match[0]][0],
                    similarity=similarity,
                )
                continue
            first[digest] = document.id
            index.insert(len(kept), sketch)
            kept.append((document.id, sketch))
            yield document


def _shingles(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    if len(words) < SHINGLE_WORDS:
        return [" ".join(words)]
    return [
        " ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)
    ]


def _bands(threshold: float) -> int:
    """The fewest bands b of r = 128 / b rows whose recall at the threshold, 1 - (1 - t^r)^b, is at
    least 95%.

    Fewer bands mean fewer candidates to compare; the comparison itself decides.
    """
    for bands in (4, 8, 16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // bands)) ** bands >= 0.95:
            return bands
    return PERMUTATIONS


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
