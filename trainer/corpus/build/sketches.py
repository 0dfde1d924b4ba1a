"""A digest and a MinHash sketch of each document, on disk, from which duplicates are found.

Source: A. Broder, "On the resemblance and containment of documents", 1997; the sketches are
rensa's.
"""

import hashlib
import os
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np

from trainer.corpus.build.staged import growing_array, load_array, save_array
from trainer.corpus.rules.scripts import word_or_symbol_pattern

PERMUTATIONS = 128
SHINGLE_WORDS = 3
ASCII_WORD = re.compile(r"\w+|[^\w\s]")
SKETCHES = "sketches"
ROWS_AT_ONCE = 1 << 14
EXACT = 0
"""Index of the band of digests; the bands of the sketch follow."""


class Sketches:
    """Writes the digests and sketches of one task's documents, in order.

    `near`: the similarity from which documents are near duplicates; None: no sketches. A document
    takes 528 bytes on disk, in memory 16 while texts are added and 40 while a band is sorted.
    """

    def __init__(self, folder: Path, rank: int, seed: int, near: float | None):
        self._folder, self._rank, self._seed, self._near = folder, rank, seed, near
        self._digests = bytearray()
        self._raw = array_path(folder, rank, "sketches").with_suffix(f".{os.getpid()}.tmp")
        self._raw.parent.mkdir(parents=True, exist_ok=True)
        self._rows = self._raw.open("wb")

    def add(self, texts: list[str]) -> None:
        """Add the next documents; a few hundred texts a call are fastest."""
        for text in texts:
            self._digests += hashlib.sha256(" ".join(text.split()).encode()).digest()[:16]
        if self._near is not None and texts:
            self._rows.write(sketch(texts, self._seed).tobytes())

    def save(self) -> None:
        """Write all arrays of `array_path`: digests, sketches, and the bands' sorted hashes."""
        self._rows.close()
        digests = np.frombuffer(self._digests, dtype="<u8").reshape(-1, 2)
        count = len(digests)
        save_array(self._path("digests"), digests)
        bands = 1
        if self._near is not None:
            bands += band_count(self._near)
            shape = (count, PERMUTATIONS)
            into = growing_array(self._path("sketches"), "<u4", shape)
            with into as file, self._raw.open("rb") as rows:
                shutil.copyfileobj(rows, file)
        with (
            growing_array(self._path("hashes"), "<u8", (bands, count)) as hashes,
            growing_array(self._path("documents"), "<u4", (bands, count)) as documents,
        ):
            for band in range(bands):
                of_band = digests[:, 0] if band == EXACT else self._hashes(band - 1, bands - 1)
                order = np.argsort(of_band, kind="stable")
                hashes.write(of_band[order].tobytes())
                documents.write(order.astype("<u4").tobytes())
        self._raw.unlink()

    def _hashes(self, band: int, bands: int) -> np.ndarray:
        """The hash of each document in one band, uint64 [documents]; read from disk in parts."""
        parts = [np.empty(0, np.uint64)]
        with self._raw.open("rb") as file:
            while len(rows := np.fromfile(file, "<u4", ROWS_AT_ONCE * PERMUTATIONS)):
                parts.append(band_hash(rows.reshape(-1, PERMUTATIONS), band, bands))
        return np.concatenate(parts)

    def _path(self, name: str) -> Path:
        return array_path(self._folder, self._rank, name)


def array_path(folder: Path, rank: int, name: str) -> Path:
    """The file of one array of a task.

    digests: uint64 [documents, 2]; sketches: uint32 [documents, 128]; hashes: uint64 [bands,
    documents], ascending in each band; documents: uint32 [bands, documents], the document of each
    hash.
    """
    return folder / SKETCHES / f"{rank:05d}.{name}.npy"


def load(folder: Path, rank: int, name: str) -> np.ndarray:
    """One of a task's arrays, memory-mapped."""
    return load_array(array_path(folder, rank, name), mapped=True)


def sketch(texts: list[str], seed: int) -> np.ndarray:
    """The MinHash sketch of each text's set of three-word shingles, uint32 [texts, 128].

    The fraction of the 128 values in which two sketches agree estimates the sets' Jaccard
    similarity J, with a standard error of sqrt(J (1 - J) / 128): 0.035 at J = 0.8.
    """
    import rensa

    shingles = [_shingles(text) for text in texts]
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(shingles, PERMUTATIONS, seed)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), PERMUTATIONS)


def band_hash(rows: np.ndarray, band: int, bands: int) -> np.ndarray:
    """Hash of each document's values in `band` (0 .. bands - 1) of its sketch, uint64 [documents].

    `rows`: sketches, uint32 [documents, 128]. Each value has a random odd multiplier, so that two
    different bands collide with a probability of about 2^-63.
    """
    width = PERMUTATIONS // bands
    factors = np.random.PCG64(0).random_raw(PERMUTATIONS) | np.uint64(1)
    columns = slice(band * width, (band + 1) * width)
    mixed = (rows[:, columns].astype(np.uint64) * factors[columns]).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(29)
    return np.asarray(mixed * np.uint64(0xBF58476D1CE4E5B9))


def band_count(threshold: float) -> int:
    """The fewest bands b of r = 128 / b rows whose recall at the threshold, 1 - (1 - t^r)^b, is at
    least 95%.

    Fewer bands mean fewer candidates to compare; the comparison itself decides.
    """
    for bands in (4, 8, 16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // bands)) ** bands >= 0.95:
            return bands
    return PERMUTATIONS


def sketched_words(text: str) -> list[str]:
    """The words, in lower case, and symbols of which shingles are made.

    A letter of a script without spaces is a word: a changed letter then changes three shingles,
    and not those of a whole clause.
    """
    pattern = ASCII_WORD if text.isascii() else _any_word()
    return pattern.findall(text.lower())


@cache
def _any_word() -> re.Pattern[str]:
    return re.compile(word_or_symbol_pattern())


def _shingles(text: str) -> list[str]:
    words = sketched_words(text)
    if len(words) < SHINGLE_WORDS:
        return [" ".join(words)]
    return [
        " ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)
    ]
