"""The order of the data as arithmetic: what comes at position n follows from the seed alone."""

import math
from collections.abc import Sequence
from enum import IntEnum
from fractions import Fraction

import numpy as np

from trainer.errors import RecipeError


class Purpose(IntEnum):
    """What a permutation is for, so that no two draw the same random bits."""

    SHARDS = 0
    DOCUMENTS = 1
    ROWS = 2


def permutation(count: int, seed: int, purpose: Purpose, *place: int) -> np.ndarray:
    """A random order of `count` things, int64 [count], a pure function of the arguments.

    It sorts raw bits of a bit generator, which numpy promises never to change; the stream of
    `Generator.permutation` may change with numpy's version, and a resumed run with it.
    """
    key = np.random.SeedSequence(seed % 2**64, spawn_key=(purpose, *place))
    return np.argsort(np.random.PCG64(key).random_raw(count), kind="stable")


def shard_order(shards: int, seed: int, source: int, epoch: int) -> np.ndarray:
    """The order in which an epoch of a source visits its shards, int64 [shards]."""
    return permutation(shards, seed, Purpose.SHARDS, source, epoch)


class Mixture:
    """Which source gives the next sequence: each share stays within one sequence of its weight.

    The chairman assignment of Tijdeman (Discrete Mathematics 32, 1980): after n sequences a source
    of share w has given between n w - 1 and n w + 1 of them, exclusive, however many sources there
    are. Taking the source that is furthest behind does not keep this bound. All arithmetic is on
    whole numbers, so that no rounding decides an order. Raises RecipeError for a bad weight.
    """

    def __init__(self, weights: Sequence[float]):
        for weight in weights:
            if not (math.isfinite(weight) and weight > 0):
                raise RecipeError(
                    f"data.mixture has weight {weight}: weights are positive; remove a corpus"
                    " from the mixture to leave it out"
                )
        # Through repr, 0.3 is 3/10 and not the nearest binary fraction with its huge denominator.
        shares = [Fraction(repr(float(weight))) for weight in weights]
        denominator = math.lcm(*(share.denominator for share in shares))
        self._weights = [int(share * denominator) for share in shares]
        self._total = sum(self._weights)
        self._slack = max(2 * len(shares) - 2, 1)
        common = math.lcm(*self._weights)
        self._intervals = [common // weight for weight in self._weights]

    def choose(self, taken: Sequence[int]) -> int:
        """The source of the next sequence, when source i has given taken[i] so far."""
        if len(taken) == 1:
            return 0
        after = sum(taken) + 1
        best, best_deadline = -1, 0
        for source, weight in enumerate(self._weights):
            behind = weight * after - taken[source] * self._total
            if behind * self._slack < self._total:
                continue
            deadline = ((taken[source] + 1) * self._slack - 1) * self._intervals[source]
            if best < 0 or deadline < best_deadline:
                best, best_deadline = source, deadline
        assert best >= 0, "some source is always behind by its slack"
        return best
