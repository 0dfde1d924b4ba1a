"""Order is arithmetic: permutations from the seed, sources from the weights."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.work import lines_run
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


def reference_choice(weights: list[float], taken: list[int]) -> int:
    """Tijdeman's rule, in fractions: of those behind by the slack, the nearest deadline."""
    shares = [
        Fraction(repr(weight)) / sum(Fraction(repr(w)) for w in weights) for weight in weights
    ]
    slack = Fraction(1, max(2 * len(weights) - 2, 1))
    turn = sum(taken) + 1
    behind = [n for n, share in enumerate(shares) if share * turn - taken[n] >= slack]
    return min(behind, key=lambda n: ((taken[n] + 1 - slack) / shares[n], n))


@given(WEIGHTS, st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_choices_follow_from_what_was_taken(weights: list[float], resume: int) -> None:
    """Catches heaps that remember more than the counts, or choose otherwise than saved runs did."""
    mixture, choices = Mixture(weights), []
    for turn in range(200):
        if turn == resume:
            mixture = Mixture(weights, mixture.taken)
        expected = reference_choice(weights, mixture.taken)
        assert mixture.peek() == expected
        choices.append(mixture.take())
        assert choices[-1] == expected
    assert mixture.taken == [choices.count(source) for source in range(len(weights))]


@given(WEIGHTS)
@settings(max_examples=60, deadline=None)
def test_a_source_is_within_one_sequence_of_its_weight_at_all_times(weights: list[float]) -> None:
    """Catches a mixture that drifts or bunches: curricula and ablations would not be comparable."""
    mixture = Mixture(weights)
    assert largest_error(weights, [mixture.take() for _ in range(300)]) < 1


def test_the_check_of_shares_can_fail() -> None:
    """Negative control: dice, with the right weights on average, leave the bound."""
    dice = np.random.default_rng(0).choice(3, size=300, p=[0.5, 0.3, 0.2]).tolist()
    assert largest_error([0.5, 0.3, 0.2], dice) > 1


def test_shares_hold_after_billions_of_sequences() -> None:
    """Catches rounding that grows with the length of the run."""
    mixture = Mixture([0.3, 0.7], [3 * 10**12, 7 * 10**12])
    choices = [mixture.take() for _ in range(100)]
    assert choices.count(0) == 30 and largest_error([0.3, 0.7], choices) < 1


def test_a_choice_among_many_sources_costs_about_what_one_among_few_does() -> None:
    """Catches a choice that looks at every source: a hundred would slow the stream down."""
    generator = np.random.default_rng(0)

    def lines(sources: int) -> int:
        mixture = Mixture((generator.random(sources) + 0.01).tolist())
        return lines_run(lambda: [mixture.take() for _ in range(1000)])

    # A look at every source would take some 50 times as many.
    assert lines(200) < 3 * lines(4)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    """Catches a mixture that would divide by zero or never choose a source."""
    with pytest.raises(RecipeError, match=r"data\.mixture"):
        Mixture([1.0, weight])
