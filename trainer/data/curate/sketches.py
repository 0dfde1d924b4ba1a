"""What is kept of each document to find its duplicates by: a digest and a MinHash sketch, on disk.

Source: A. Broder, "On the resemblance and containment of documents", 1997; the sketches are
rensa's.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from trainer.data.curate.staged import load_array, save_array

PERMUTATIONS = 128
SHINGLE_WORDS = 3
WORD = re.compile(r"\w+|[^\w\s]")
SKETCHES = "sketches"
EXACT = 0
"""Number of the band that holds digests; the bands of the sketch follow."""


class Sketches:
    """The digests and sketches of one task's documents, in their order; 528 bytes a document."""

    def __init__(self, seed: int, near: float | None):
        self._seed, self._near = seed, near
        self._digests: list[bytes] = []
        self._rows: list[np.ndarray] = []

    def add(self, texts: list[str]) -> None:
        """The next documents' texts; a few hundred at once are fastest."""
        for text in texts:
            self._digests.append(hashlib.sha256(" ".join(text.split()).encode()).digest()[:16])
        if self._near is not None and texts:
            self._rows.append(sketch(texts, self._seed))

    def save(self, folder: Path, rank: int) -> None:
        """Write digests, sketches, and the bands: each band's hashes sorted, with the documents."""
        count = len(self._digests)
        digests = np.frombuffer(b"".join(self._digests), dtype="<u8").reshape(count, 2)
        bands = [digests[:, 0]]
        if self._near is not None:
            rows = np.concatenate([np.empty((0, PERMUTATIONS), np.uint32), *self._rows])
            save_array(array_path(folder, rank, "sketches"), rows)
            bands += band_hashes(rows, band_count(self._near))
        hashes = np.stack(bands)
        order = np.argsort(hashes, axis=1, kind="stable")
        save_array(array_path(folder, rank, "digests"), digests)
        save_array(array_path(folder, rank, "hashes"), np.take_along_axis(hashes, order, axis=1))
        save_array(array_path(folder, rank, "documents"), order.astype(np.uint32))


def array_path(folder: Path, rank: int, name: str) -> Path:
    """digests: uint64 [documents, 2]; sketches: uint32 [documents, 128]; hashes: uint64 [bands,
    documents], each band rising; documents: uint32, whose hash each is.
    """
    return folder / SKETCHES / f"{rank:05d}.{name}.npy"


def load(folder: Path, rank: int, name: str) -> np.ndarray:
    """One of a task's arrays, left on disk."""
    return load_array(array_path(folder, rank, name), mapped=True)


def sketch(texts: list[str], seed: int) -> np.ndarray:
    """The MinHash sketch of each text's set of three-word shingles, uint32 [texts, 128].

    The share of places in which two sketches agree estimates the sets' Jaccard similarity J, with a
    standard error of sqrt(J (1 - J) / 128): 0.035 at J = 0.8.
    """
    import rensa

    shingles = [_shingles(text) for text in texts]
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(shingles, PERMUTATIONS, seed)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), PERMUTATIONS)


def band_hashes(rows: np.ndarray, bands: int) -> list[np.ndarray]:
    """One hash a band and document, uint64 [documents] each, of the band's share of a sketch."""
    width = PERMUTATIONS // bands
    generator = np.random.PCG64(0)
    hashes = []
    for band in range(bands):
        # A random odd multiplier a place: two different bands of sketches share a hash once in
        # about 2^63 pairs.
        factors = generator.random_raw(width) | np.uint64(1)
        part = rows[:, band * width : (band + 1) * width].astype(np.uint64)
        mixed = (part * factors).sum(axis=1, dtype=np.uint64)
        mixed ^= mixed >> np.uint64(29)
        hashes.append(mixed * np.uint64(0xBF58476D1CE4E5B9))
    return hashes


def band_count(threshold: float) -> int:
    """The fewest bands b of r = 128 / b rows whose recall at the threshold, 1 - (1 - t^r)^b, is at
    least 95%.

    Fewer bands mean fewer candidates to compare; the comparison itself decides.
    """
    for bands in (4, 8, 16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // bands)) ** bands >= 0.95:
            return bands
    return PERMUTATIONS


def _shingles(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    if len(words) < SHINGLE_WORDS:
        return [" ".join(words)]
    return [
        " ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)
    ]
