"""The order of the data as pure arithmetic: sequence n follows from the seed alone."""

import math
from collections.abc import Sequence
from enum import IntEnum
from fractions import Fraction
from heapq import heapify, heappop, heappush

import numpy as np

from trainer.errors import RecipeError


class Purpose(IntEnum):
    """What a permutation is for: part of its random key, so that no two uses share random bits."""

    SHARDS = 0
    DOCUMENTS = 1
    ROWS = 2
    QUESTIONS = 3


def permutation(count: int, seed: int, purpose: Purpose, *place: int) -> np.ndarray:
    """A random permutation of 0 .. count - 1, int64 [count], a pure function of the arguments.

    `place`: further integers of the random key, such as source, epoch and block.

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
    whole numbers, so that no rounding decides an order.

    `weights`: positive, of any sum. `taken`: sequences that each source has given so far (None:
    none), which alone determines what comes next. A source may give its next sequence from one
    position of the mixture on (its release) and must have given it by a later one (its deadline);
    among the released sources the earliest deadline wins, the lowest index on a tie. Both change
    only when the source gives, so a choice costs O(log sources). Raises RecipeError for a weight
    that is not positive and finite.
    """

    def __init__(self, weights: Sequence[float], taken: Sequence[int] | None = None):
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
        self.taken = list(taken) if taken is not None else [0] * len(shares)
        self._turn = sum(self.taken) + 1
        self._waiting = [(self._first_turn(source), source) for source in range(len(shares))]
        heapify(self._waiting)
        self._ready: list[tuple[int, int]] = []

    def peek(self) -> int:
        """The index of the source of the next sequence."""
        waiting, ready, slack = self._waiting, self._ready, self._slack
        while waiting and waiting[0][0] <= self._turn:
            source = heappop(waiting)[1]
            deadline = ((self.taken[source] + 1) * slack - 1) * self._intervals[source]
            heappush(ready, (deadline, source))
        assert ready, "some source is always behind by its slack"
        return ready[0][1]

    def take(self) -> int:
        """The index of the source of the next sequence, which is counted as given."""
        source = self.peek()
        heappop(self._ready)
        self.taken[source] += 1
        self._turn += 1
        heappush(self._waiting, (self._first_turn(source), source))
        return source

    def _first_turn(self, source: int) -> int:
        """The first position, from 1, at which the source is 1 / slack or more behind its share."""
        behind = (self.taken[source] * self._slack + 1) * self._total
        return -(-behind // (self._slack * self._weights[source]))
