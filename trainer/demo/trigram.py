"""A baseline for small models: an interpolated modified Kneser-Ney trigram.

Source: Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling",
TR-10-98, 1998, equations 26 and 27. It sorts and searches packed int64 keys, and fits a million
tokens in about a second.

The trigram has the model's context: a sequence starts with a token that is given and not predicted,
preceded by one virtual token, the same for all sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.int64]

# Discounts of counts 1, 2 and 3 or more, where counts of counts are too sparse to estimate them.
SPARSE_DISCOUNTS = (0.5, 1.0, 1.5)
LARGEST_VOCABULARY = 2**21 - 2  # three ids, and the virtual token, in the 63 bits of a key


def pack(
    first: npt.ArrayLike, second: npt.ArrayLike, third: npt.ArrayLike, vocabulary: int
) -> Keys:
    """Pack ids [n] into trigram keys int64 [n]; `first` may be `vocabulary`, the virtual token."""
    assert vocabulary <= LARGEST_VOCABULARY, f"{vocabulary} ids do not fit a packed key"
    base = vocabulary + 1
    context = np.asarray(first, np.int64) * base + np.asarray(second, np.int64)
    return context * base + np.asarray(third, np.int64)


def trigrams_of_rows(
    tokens: npt.ArrayLike, labels: npt.ArrayLike, position_ids: npt.ArrayLike, vocabulary: int
) -> Keys:
    """One key for each supervised position of packed rows [..., sequence_length].

    Negative labels (padding) are left out; a document starts where `position_ids` is 0.
    """
    current, target, position = (np.asarray(x) for x in (tokens, labels, position_ids))
    before = np.roll(current, 1, axis=-1)
    before = np.where(position == 0, vocabulary, before)
    supervised = target >= 0
    return pack(before[supervised], current[supervised], target[supervised], vocabulary)


def trigrams_of_sequences(sequences: Iterable[Sequence[int]], vocabulary: int) -> Keys:
    """One key for each token but the first of every stored document or piece of one."""
    keys = [np.zeros(0, np.int64)]
    for sequence in sequences:
        ids = np.asarray(sequence, np.int64)
        before = np.concatenate(([vocabulary], ids))[: max(len(ids) - 1, 0)]
        keys.append(pack(before, ids[:-1], ids[1:], vocabulary))
    return np.concatenate(keys)


def discounts(counts: Keys) -> npt.NDArray[np.float64]:
    """The discounts of counts 0, 1, 2, 3 or more, fp64 [4], from counts of counts (eq. 26)."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    estimated: tuple[float, float, float] = SPARSE_DISCOUNTS
    if n1 and n2 and n3 and n4:
        y = n1 / (n1 + 2 * n2)
        estimated = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        # Outside these bounds a probability could be negative: too few counts to estimate from.
        if any(not 0 <= discount <= count for count, discount in enumerate(estimated, 1)):
            estimated = SPARSE_DISCOUNTS
    return np.array((0.0, *estimated))


@dataclass(frozen=True)
class Order:
    """One order of n-grams: discounted probabilities, and back-off weights of the contexts.

    `grams`, `contexts`: sorted keys; `discounted`, `backoffs`: fp64, one for each of them.
    """

    grams: Keys  # sorted
    discounted: npt.NDArray[np.float64]
    contexts: Keys  # sorted
    backoffs: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, grams: Keys, counts: Keys, base: int) -> Order:
        """Fit from sorted unique n-grams and their counts; a context is `gram // base`."""
        contexts, start = np.unique(grams // base, return_index=True)
        if not len(grams):
            return cls(grams, np.zeros(0), contexts, np.zeros(0))
        totals = np.add.reduceat(counts, start)
        discount = discounts(counts)[np.minimum(counts, 3)]
        sizes = np.diff(np.append(start, len(grams)))
        discounted = (counts - discount) / np.repeat(totals, sizes)
        return cls(grams, discounted, contexts, np.add.reduceat(discount, start) / totals)

    def interpolate(
        self, grams: Keys, lower: npt.NDArray[np.float64], base: int
    ) -> npt.NDArray[np.float64]:
        """The probabilities of `grams` from those of the next lower order (equation 27), fp64."""
        backoff = _look_up(self.contexts, self.backoffs, grams // base, missing=1.0)
        return _look_up(self.grams, self.discounted, grams, missing=0.0) + backoff * lower


def _look_up(
    keys: Keys, values: npt.NDArray[np.float64], wanted: Keys, missing: float
) -> npt.NDArray[np.float64]:
    if not len(keys):
        return np.full(wanted.shape, missing)
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, values[index], missing)


@dataclass(frozen=True)
class Trigram:
    """An interpolated modified Kneser-Ney trigram; unigrams back off to the uniform one."""

    vocabulary: int
    orders: tuple[Order, Order, Order]  # unigram, bigram, trigram

    @classmethod
    def fit(cls, keys: Keys, vocabulary: int) -> Trigram:
        """Fit on the keys [n] of `trigrams_of_rows` or `trigrams_of_sequences`.

        The trigram counts occurrences; a lower order counts the distinct words before its n-gram.
        """
        base = vocabulary + 1
        grams, counts = np.unique(keys, return_counts=True)
        orders = [Order.fit(grams, counts, base)]
        for modulus in (base * base, base):
            grams, counts = np.unique(grams % modulus, return_counts=True)
            orders.append(Order.fit(grams, counts, base))
        third, second, first = orders
        return cls(vocabulary, (first, second, third))

    def probabilities(self, keys: Keys) -> npt.NDArray[np.float64]:
        """P(third | first, second) of packed trigrams [n], fp64 [n]; never zero."""
        base = self.vocabulary + 1
        probability = np.full(keys.shape, 1.0 / self.vocabulary)
        for order, modulus in zip(self.orders, (base, base**2, base**3), strict=True):
            probability = order.interpolate(keys % modulus, probability, base)
        return probability

    def nats_per_token(self, keys: Keys) -> float:
        """The mean negative log probability of packed trigrams [n], in nats; NaN for none."""
        if not len(keys):
            return math.nan
        return float(-np.log(self.probabilities(keys)).mean())
