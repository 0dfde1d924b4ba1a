"""Runs of words as 64-bit hashes, by which many passages are found in a text at once."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator

import numpy as np

FILTER_SLOTS = 8
"""Slots of the hash filter for each passage."""
WORDS_REMEMBERED = 200_000
MULTIPLIER = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)

# A letter of Chinese or Japanese counts as a word, as no spaces separate words there.
_WORD = re.compile(
    r"[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
)


class RunTable:
    """The hashes of passages of one length, sorted, with the index of each one's set."""

    def __init__(self, parts: list[tuple[np.ndarray, int]]):
        hashes = np.concatenate([runs for runs, _ in parts])
        owners = np.repeat([owner for _, owner in parts], [len(runs) for runs, _ in parts])
        pairs = np.unique(np.stack([hashes, owners.astype(np.uint64)], axis=1), axis=0)
        self._sorted = np.ascontiguousarray(pairs[:, 0])
        self._owners = pairs[:, 1].astype(np.int32)

    def owners(self, runs: np.ndarray) -> Iterator[int]:
        """The sets, by index, of each of `runs` (uint64 [runs]) that is a passage."""
        first = np.searchsorted(self._sorted, runs, side="left")
        last = np.searchsorted(self._sorted, runs, side="right")
        for start, stop in zip(first[last > first], last[last > first], strict=True):
            yield from self._owners[start:stop].tolist()


class Openings:
    """The hashes of passages' beginnings: a filter with false positives, then an exact search."""

    def __init__(self, parts: list[np.ndarray]):
        self._sorted = np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *parts]))
        slots = 1 << max(16, (len(self._sorted) * FILTER_SLOTS - 1).bit_length())
        self._mask = np.uint64(slots - 1)
        self._filter = np.zeros(slots, dtype=bool)
        self._filter[self._sorted & self._mask] = True

    def beginnings_in(self, runs: np.ndarray) -> np.ndarray:
        """The indices in `runs`, uint64 [runs], of those that begin a passage."""
        indices = np.flatnonzero(self._filter[runs & self._mask])
        if not len(indices):
            return indices
        likely = runs[indices]
        # A hash above all others is compared with the last.
        found = np.searchsorted(self._sorted, likely).clip(max=len(self._sorted) - 1)
        return indices[self._sorted[found] == likely]


class WordHashes(dict[str, int]):
    """A cache of the 64-bit hashes of words, equal in every process; bounded in size."""

    def __missing__(self, word: str) -> int:
        if len(self) >= WORDS_REMEMBERED:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "big")
        return value

    def of(self, text: str) -> np.ndarray:
        """The hashes of a text's words in order, uint64 [words]."""
        words = words_of(text)
        return np.fromiter(map(self.__getitem__, words), np.uint64, len(words))


def words_of(text: str) -> list[str]:
    """The words that are compared: lower case, NFKC, without punctuation."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word begins and ends in the text itself, which is not brought to NFKC."""
    return [word.span() for word in _WORD.finditer(text)]


def rolled(
    hashes: np.ndarray, starts: np.ndarray, lengths: list[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """(length, hashes of the runs of that many words from each start), for ascending `lengths`.

    `hashes`: of the words, uint64 [words]; `starts`: indices, int64; the result is uint64
    [runs], without runs that pass the end. A hash is a polynomial in MULTIPLIER modulo 2^64, so
    that a longer run's follows from a shorter's.
    """
    runs = np.zeros(len(starts), dtype=np.uint64)
    for length in range(1, lengths[-1] + 1):
        within = starts + length <= len(hashes)
        starts, runs = starts[within], runs[within]
        runs = runs * MULTIPLIER + hashes[starts + (length - 1)]
        if length in lengths:
            yield length, runs


def opened(hashes: np.ndarray, shortest: int) -> np.ndarray:
    """`rolled` from every start for the largest power of two up to `shortest`, in fewer steps."""
    runs, length, factor = hashes, 1, MULTIPLIER
    while length * 2 <= shortest:
        runs = runs[:-length] * factor + runs[length:]
        length, factor = length * 2, factor * factor
    return runs
