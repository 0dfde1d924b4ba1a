"""The trigram is the number that the demo's model is judged by: it must be the real thing."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from tests.work import lines_run
from trainer.demo.trigram import (
    SPARSE_DISCOUNTS,
    Trigram,
    discounts,
    pack,
    trigrams_of_rows,
    trigrams_of_sequences,
)

VOCABULARY = 23


class SlowTrigram:
    """Modified Kneser-Ney from dictionaries, one formula a line, to compare with."""

    def __init__(self, sequences: list[list[int]], vocabulary: int) -> None:
        self.vocabulary = vocabulary
        third = Counter[tuple[int, ...]]()
        for sequence in sequences:
            padded = [vocabulary, *sequence]
            third.update((padded[i], padded[i + 1], padded[i + 2]) for i in range(len(padded) - 2))
        second = Counter(gram[1:] for gram in third)
        first = Counter(gram[1:] for gram in second)
        self.counts = {1: first, 2: second, 3: third}
        self.followers = {n: defaultdict(Counter) for n in (1, 2, 3)}
        for n, counts in self.counts.items():
            for gram, count in counts.items():
                self.followers[n][gram[:-1]][gram[-1]] = count

    def discount(self, n: int, count: int) -> float:
        if count == 0:
            return 0.0
        n1, n2, n3, n4 = (sum(c == k for c in self.counts[n].values()) for k in (1, 2, 3, 4))
        if min(n1, n2, n3, n4) == 0:
            return SPARSE_DISCOUNTS[min(count, 3) - 1]
        y = n1 / (n1 + 2 * n2)
        values = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        if any(not 0 <= value <= k for k, value in enumerate(values, 1)):
            values = SPARSE_DISCOUNTS
        return values[min(count, 3) - 1]

    def probability(self, gram: tuple[int, ...]) -> float:
        n = len(gram)
        if n == 0:
            return 1 / self.vocabulary
        followers = self.followers[n].get(gram[:-1], Counter())
        total = sum(followers.values())
        lower = self.probability(gram[1:])
        if total == 0:
            return lower
        freed = sum(self.discount(n, count) for count in followers.values())
        count = followers[gram[-1]]
        return (count - self.discount(n, count) + freed * lower) / total


def zipf_sequences(seed: int, documents: int = 60, longest: int = 40) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, VOCABULARY - 2)  # the last ids never occur
    weights /= weights.sum()
    return [
        [0, *generator.choice(len(weights), generator.integers(1, longest), p=weights).tolist(), 0]
        for _ in range(documents)
    ]


@pytest.mark.parametrize("documents", [1, 5, 60, 400])
def test_probabilities_equal_the_formulas(documents: int) -> None:
    """Catches any slip of counts, discounts or interpolation, with and without sparse discounts."""
    sequences = zipf_sequences(documents, documents)
    slow = SlowTrigram(sequences, VOCABULARY)
    fast = Trigram.fit(trigrams_of_sequences(sequences, VOCABULARY), VOCABULARY)
    generator = np.random.default_rng(1)
    grams = generator.integers(0, VOCABULARY, (500, 3))
    grams[:50, 0] = VOCABULARY  # the first prediction of a sequence
    got = fast.probabilities(pack(*grams.T, VOCABULARY))
    expected = [slow.probability(tuple(gram)) for gram in grams.tolist()]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_estimated_discounts_are_reached_by_the_comparison() -> None:
    """Negative control: with only sparse discounts the comparison above would prove too little."""
    keys = trigrams_of_sequences(zipf_sequences(400, 400), VOCABULARY)
    counts = np.unique(keys, return_counts=True)[1]
    assert tuple(discounts(counts)[1:]) != SPARSE_DISCOUNTS


@pytest.mark.parametrize("documents", [0, 1, 60])
def test_probabilities_sum_to_one_in_every_context(documents: int) -> None:
    """Catches probability mass lost or invented, which would move the baseline."""
    sequences = zipf_sequences(3, documents)
    model = Trigram.fit(trigrams_of_sequences(sequences, VOCABULARY), VOCABULARY)
    for first in range(VOCABULARY + 1):
        for second in range(VOCABULARY):
            keys = pack(first, second, np.arange(VOCABULARY), VOCABULARY)
            assert model.probabilities(keys).sum() == pytest.approx(1, abs=1e-12)


def test_an_empty_fit_is_uniform() -> None:
    """Catches a zero or missing floor below the unigram."""
    model = Trigram.fit(trigrams_of_sequences([], VOCABULARY), VOCABULARY)
    keys = trigrams_of_sequences(zipf_sequences(4, 3), VOCABULARY)
    assert model.nats_per_token(keys) == pytest.approx(math.log(VOCABULARY))


def test_unseen_tokens_share_one_floor() -> None:
    """Catches an infinite loss on a validation token that training never held."""
    model = Trigram.fit(trigrams_of_sequences(zipf_sequences(5), VOCABULARY), VOCABULARY)
    unseen = pack(0, 1, [VOCABULARY - 1, VOCABULARY - 2], VOCABULARY)
    floor = model.probabilities(unseen)
    assert floor[0] == floor[1] > 0
    assert floor[0] < model.probabilities(pack(0, 1, [1], VOCABULARY))[0]


def test_an_unknown_context_falls_to_the_unigram() -> None:
    """Catches a backoff weight other than 1 for a context that was never seen."""
    model = Trigram.fit(trigrams_of_sequences(zipf_sequences(6), VOCABULARY), VOCABULARY)
    known = np.arange(VOCABULARY)
    unseen = pack(VOCABULARY - 1, VOCABULARY - 2, known, VOCABULARY)
    uniform = np.full(VOCABULARY, 1 / VOCABULARY)
    unigram = model.orders[0].interpolate(known, uniform, VOCABULARY + 1)
    np.testing.assert_array_equal(model.probabilities(unseen), unigram)


def test_packed_rows_count_as_their_documents() -> None:
    """Catches n-grams that reach over a document boundary, or that count padding."""
    documents = [[0, 5, 6, 7, 0], [0, 5, 0], [0, 9, 9, 0]]
    rows, targets, positions = [], [], []
    for packed in (documents[:2], documents[2:]):
        row = [token for document in packed for token in document[:-1]]
        target = [token for document in packed for token in document[1:]]
        position = [i for document in packed for i in range(len(document) - 1)]
        padding = 8 - len(row)
        rows.append(row + [0] * padding)
        targets.append(target + [-100] * padding)
        positions.append(position + list(range(padding)))
    got = trigrams_of_rows(rows, targets, positions, VOCABULARY)
    expected = trigrams_of_sequences(documents, VOCABULARY)
    assert sorted(got) == sorted(expected)


def test_more_tokens_take_no_more_lines() -> None:
    """Catches a fit that is not vectorised: the demo would wait for its baseline."""
    generator = np.random.default_rng(7)

    def fit(count: int) -> None:
        tokens = (4096 * generator.random(count) ** 4).astype(np.int64)
        keys = trigrams_of_sequences([tokens], 4096)
        Trigram.fit(keys[: -count // 20], 4096).nats_per_token(keys[-count // 20 :])

    # Measured: 640 lines for both; the first use of a function of numpy may run some more.
    assert lines_run(lambda: fit(100_000)) < lines_run(lambda: fit(10_000)) + 1000
