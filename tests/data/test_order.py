"""Order is arithmetic: permutations from the seed, sources from the weights."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.order import Mixture, Purpose, permutation, shard_order
from trainer.errors import RecipeError

WEIGHTS = st.lists(st.integers(1, 1000).map(lambda n: n / 100), min_size=1, max_size=12)


@given(st.integers(0, 300), st.integers(0, 2**63), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_each_shard_comes_once_an_epoch(shards: int, seed: int, source: int, epoch: int) -> None:
    """Catches an order that repeats or forgets a shard."""
    assert sorted(shard_order(shards, seed, source, epoch)) == list(range(shards))


def test_the_order_is_the_one_that_saved_runs_were_made_with() -> None:
    """Catches a change of the order, which would silently break the resume of every saved run."""
    assert shard_order(10, 1234, 0, 0).tolist() == [6, 1, 5, 4, 0, 2, 8, 7, 9, 3]
    assert permutation(10, 1234, Purpose.DOCUMENTS, 0, 0, 0).tolist() == [
        4,
        8,
        2,
        3,
        5,
        7,
        6,
        9,
        0,
        1,
    ]


def test_orders_differ_by_seed_source_epoch_and_purpose() -> None:
    """Catches an argument that the order ignores: each epoch would read alike."""
    orders = {
        tuple(permutation(50, *key).tolist())
        for key in [
            (1, Purpose.SHARDS, 0, 0),
            (2, Purpose.SHARDS, 0, 0),
            (1 + 2**32, Purpose.SHARDS, 0, 0),
            (1, Purpose.SHARDS, 1, 0),
            (1, Purpose.SHARDS, 0, 1),
            (1, Purpose.DOCUMENTS, 0, 0),
            (1, Purpose.ROWS, 0, 0),
        ]
    }
    assert len(orders) == 7


def largest_error(weights: list[float], choices: list[int]) -> Fraction:
    """Largest distance, in sequences and at any time, of a source's count from its share."""
    shares = [Fraction(repr(weight)) for weight in weights]
    total = sum(shares)
    counts = [0] * len(weights)
    worst = Fraction(0)
    for after, choice in enumerate(choices, start=1):
        counts[choice] += 1
        for share, count in zip(shares, counts, strict=True):
            worst = max(worst, abs(count - share / total * after))
    return worst


@given(WEIGHTS)
@settings(max_examples=60, deadline=None)
def test_a_source_is_within_one_sequence_of_its_weight_at_all_times(weights: list[float]) -> None:
    """Catches a mixture that drifts or bunches: curricula and ablations would not be comparable."""
    mixture, taken, choices = Mixture(weights), [0] * len(weights), []
    for _ in range(300):
        choices.append(mixture.choose(taken))
        taken[choices[-1]] += 1
    assert largest_error(weights, choices) < 1


def test_the_check_of_shares_can_fail() -> None:
    """Negative control: dice, with the right weights on average, leave the bound."""
    dice = np.random.default_rng(0).choice(3, size=300, p=[0.5, 0.3, 0.2]).tolist()
    assert largest_error([0.5, 0.3, 0.2], dice) > 1


def test_shares_hold_after_billions_of_sequences() -> None:
    """Catches rounding that grows with the length of the run."""
    taken = [3 * 10**12, 7 * 10**12]
    mixture, choices = Mixture([0.3, 0.7]), []
    for _ in range(100):
        choices.append(mixture.choose(taken))
        taken[choices[-1]] += 1
    assert choices.count(0) == 30 and largest_error([0.3, 0.7], choices) < 1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    """Catches a mixture that would divide by zero or never choose a source."""
    with pytest.raises(RecipeError, match=r"data\.mixture"):
        Mixture([1.0, weight])
