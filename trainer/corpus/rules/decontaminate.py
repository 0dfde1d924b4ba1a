"""Decontamination: drops documents with passages of evaluation sets, found by their hashes."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from trainer.corpus.rules.evaluation_sets import read_examples
from trainer.corpus.rules.rule import Finding, Judgement, RuleDescription, kept
from trainer.errors import RecipeError
from trainer.recipe.curation import DecontaminateRule

SHORTEST = 8
"""Examples of fewer words are left out: such runs of words occur by chance."""
FILTER_SLOTS = 8
"""Slots of the hash filter for each passage."""
WORDS_REMEMBERED = 200_000
MULTIPLIER = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)

# A letter of Chinese or Japanese counts as a word, as no spaces separate words there.
_WORD = re.compile(
    r"[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
)


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
        self._hash = _WordHashes()
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
        self._tables = {length: _Table(parts) for length, parts in sorted(found.items())}
        self._openings = _Openings(openings)

    def passages(self, text: str) -> Counter[str]:
        """The number of runs of words in the text that are passages of each set, by its name."""
        counts: Counter[str] = Counter()
        hashes = self._hashes(text)
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
        hashes = self._hashes(text)
        length = min(len(hashes), self._words)
        if length < self._shortest:
            return 0
        starts = np.arange(len(hashes) - length + 1)
        ((_, runs),) = rolled(hashes, starts, [length])
        found.setdefault(length, []).append((runs, owner))
        openings.append(opened(hashes, self._shortest)[: len(runs)])
        return len(runs)

    def _hashes(self, text: str) -> np.ndarray:
        words = words_of(text)
        return np.fromiter(map(self._hash.__getitem__, words), np.uint64, len(words))


class _Table:
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


class _Openings:
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


class _WordHashes(dict[str, int]):
    """A cache of the 64-bit hashes of words, equal in every process; bounded in size."""

    def __missing__(self, word: str) -> int:
        if len(self) >= WORDS_REMEMBERED:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "big")
        return value


def words_of(text: str) -> list[str]:
    """The words that are compared: lower case, NFKC, without punctuation."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower())


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
