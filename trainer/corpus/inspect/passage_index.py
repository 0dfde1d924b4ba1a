"""Many passages looked for at once: which of thousands stand in a text, by their words."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from trainer.corpus.inspect.sentences import sentence_spans
from trainer.corpus.rules.word_runs import (
    Openings,
    RunTable,
    WordHashes,
    opened,
    rolled,
    words_of,
)


class PassageIndex:
    """The passages as hashes of runs of words: case, punctuation and white space play no part.

    A passage stands in a text as whole words, in a row; one without any word stands nowhere. Words
    are those that evaluation sets are kept out by (`words_of`). Memory: some 100 bytes a passage;
    time: that of a text's words, whatever the number of passages. Two different runs of words
    collide with a probability of about 2^-64.
    """

    def __init__(self, passages: Sequence[str]):
        self._hash = WordHashes()
        by_opening: dict[int, dict[int, list[tuple[np.ndarray, int]]]] = {}
        for owner, passage in enumerate(passages):
            hashes = self._hash.of(passage)
            if not len(hashes):
                continue
            # The largest power of two that is no longer than the passage, 8 at most.
            opening = min(8, 1 << (len(hashes).bit_length() - 1))
            ((_, run),) = rolled(hashes, np.zeros(1, dtype=np.int64), [len(hashes)])
            lengths = by_opening.setdefault(opening, {})
            lengths.setdefault(len(hashes), []).append((run, owner))
        self._tables = {
            opening: {length: RunTable(parts) for length, parts in sorted(lengths.items())}
            for opening, lengths in by_opening.items()
        }
        self._openings = {
            opening: Openings([opened(self._hash.of(passages[owner]), opening)[:1] for owner in of])
            for opening, of in {
                opening: [owner for parts in lengths.values() for _, owner in parts]
                for opening, lengths in by_opening.items()
            }.items()
        }

    def found_in(self, text: str) -> list[int]:
        """The indices of the passages that stand in the text, each once."""
        hashes = self._hash.of(text)
        found: list[int] = []
        for opening, tables in self._tables.items():
            starts = self._openings[opening].beginnings_in(opened(hashes, opening))
            if not len(starts):
                continue
            for length, runs in rolled(hashes, starts, list(tables)):
                found += tables[length].owners(np.unique(runs))
        return found


class PairIndex:
    """Pairs of passages, looked for in one sentence: a subject and what is said of it."""

    def __init__(self, pairs: Sequence[tuple[str, str]]):
        passages = list(dict.fromkeys(passage for pair in pairs for passage in pair))
        number = {passage: position for position, passage in enumerate(passages)}
        self._index = PassageIndex(passages)
        self._folded = [tuple(map(_folded, pair)) for pair in pairs]
        self._pairs: dict[int, list[tuple[int, int]]] = {}
        for pair, (first, second) in enumerate(pairs):
            self._pairs.setdefault(number[first], []).append((number[second], pair))

    def found_in(self, text: str) -> Counter[int]:
        """In how many sentences of the text both passages of a pair stand, by the pair's index."""
        found = set(self._index.found_in(text))
        likely = [
            pair
            for first in found & self._pairs.keys()
            for second, pair in self._pairs[first]
            if second in found
        ]
        counts: Counter[int] = Counter()
        for start, end in sentence_spans(text) if likely else ():
            sentence = _folded(text[start:end])
            counts.update(
                pair for pair in likely if all(part in sentence for part in self._folded[pair])
            )
        return counts


def _folded(text: str) -> str:
    return f" {' '.join(words_of(text))} "
