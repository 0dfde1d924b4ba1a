"""Runs of words of the training text, by how many documents hold them, to be recited."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.corpus.rules.word_runs import WordHashes, rolled, word_spans
from trainer.evaluate.corpora import SearchableText, documents_up_to
from trainer.evaluate.occurrence_buckets import BUCKETS, bucket_of
from trainer.evaluate.respondent import Respondent
from trainer.evaluate.search_cache import cached_search

RULES = 1
"""Raised whenever the same text would give other sequences."""
PREFIX_WORDS, NEXT_WORDS = 20, 24
FEWEST_TOKENS, MOST_TOKENS = 20, 50
"""Tokens that have to be recited: what is shorter is guessed, what is longer adds nothing."""
MINED_CHARACTERS = 16_000_000
"""Sequences are taken from so much of the training text; they are counted in all of it."""
SINGLE_RUNS_A_DOCUMENT = 4
CANDIDATES = 3
"""Candidates for each sequence wanted: some move to another group when they are counted."""


@dataclass(frozen=True)
class MinedSequence:
    """A run of the training text.

    `prefix`, `next`: what is shown of it, and the FEWEST_TOKENS to MOST_TOKENS tokens that follow,
    with the white space before them; `occurrences`: how many training documents hold both;
    `document`: one of them.
    """

    prefix: str
    next: str
    occurrences: int
    document: str

    @property
    def bucket(self) -> str:
        """The name of its group of occurrences."""
        name = bucket_of(self.occurrences)
        assert name is not None, "it was found in the text"
        return name


def mined_sequences(
    own: SearchableText, respondent: Respondent, seed: int, in_bucket: int
) -> list[MinedSequence]:
    """At most `in_bucket` sequences of each group of occurrences, each first seen in another
    document; the same for the same text, tokenizer and seed.
    """
    found = cached_search(
        ["sequences", RULES, own.fingerprint, seed, in_bucket * CANDIDATES],
        lambda: _candidates(own, seed, in_bucket * CANDIDATES),
    )
    cut = [
        (*parts, document)
        for text, split, document in found
        if (parts := _cut(text, split, respondent))
    ]
    counts = own.occurrences([prefix + following for prefix, following, _ in cut])
    room = dict.fromkeys(BUCKETS, in_bucket)
    chosen = []
    for (prefix, following, document), count in zip(cut, counts, strict=True):
        # Of words that hold no letter or digit, as a line of signs, none is found.
        bucket = bucket_of(count)
        if bucket is not None and room[bucket]:
            room[bucket] -= 1
            chosen.append(MinedSequence(prefix, following, count, document))
    return chosen


def _cut(text: str, split: int, respondent: Respondent) -> tuple[str, str] | None:
    """The prefix, and as many of the words behind it as MOST_TOKENS hold; None for too few."""
    prefix, following = text[:split], text[split:]
    ends = [end for _, end in word_spans(following)]
    while ends:
        following = following[: ends.pop()]
        tokens = len(respondent.encode(following))
        if tokens <= MOST_TOKENS:
            return (prefix, following) if tokens >= FEWEST_TOKENS else None
    return None


def _candidates(own: SearchableText, seed: int, in_bucket: int) -> list[list[Any]]:
    """[text, where the prefix ends, document] of candidates, those of each group in a row that
    follows from the seed.
    """
    counts: dict[int, int] = {}
    texts: dict[int, tuple[str, int, str]] = {}
    hashes = WordHashes()
    for document in documents_up_to(own, MINED_CHARACTERS):
        runs = {key: span for key, *span in _runs(document.text, hashes)}
        few = set(sorted(runs)[:SINGLE_RUNS_A_DOCUMENT])
        for key, (first, split, last) in runs.items():
            counts[key] = counts.get(key, 0) + 1
            if key not in texts and (key in few or counts[key] > 1):
                texts[key] = document.text[first:last], split - first, document.id
    groups: dict[str, list[int]] = {name: [] for name in BUCKETS}
    for key in texts:
        groups[bucket_of(counts[key]) or ""].append(key)
    order = np.random.default_rng(seed)
    chosen = []
    for keys in groups.values():
        documents: set[str] = set()
        for number in order.permutation(len(keys)).tolist():
            text, split, name = texts[keys[number]]
            if name not in documents and len(documents) < in_bucket:
                documents.add(name)
                chosen.append([text, split, name])
    return chosen


def _runs(text: str, hashes: WordHashes) -> Iterator[tuple[int, int, int, int]]:
    """(hash, first character, end of the prefix, end) of runs that begin a line or a sentence."""
    spans = word_spans(text)
    words = PREFIX_WORDS + NEXT_WORDS
    if len(spans) < words:
        return
    ends = [0, *(end for _, end in spans)]
    starts = [
        number
        for number, (first, _) in enumerate(spans[: len(spans) - words + 1])
        if not number or set(text[ends[number] : first]) & set("\n.!?\u3002")
    ]
    of_words = (hashes[text[first:last].lower()] for first, last in spans)
    numbers = np.fromiter(of_words, np.uint64, len(spans))
    ((_, keys),) = rolled(numbers, np.array(starts, dtype=np.int64), [words])
    for start, key in zip(starts, keys.tolist(), strict=True):
        yield key, spans[start][0], spans[start + PREFIX_WORDS - 1][1], spans[start + words - 1][1]
