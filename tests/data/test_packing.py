"""Packing neither loses nor repeats a position, wastes little, and takes few lines a document."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.work import lines_run
from trainer.data.packing import (
    PackingPlan,
    PackingSummary,
    best_fit_decreasing,
    packing_summary,
    plan_block,
)
from trainer.recipe.corpus import CorpusSection
from trainer.recipe.data import DataSection

LENGTHS = st.lists(st.lists(st.integers(2, 70), max_size=30), min_size=1, max_size=4)


def plan(lengths: list[list[int]], sequence_length: int, packing: str = "best_fit") -> PackingPlan:
    arrays = [np.array(part, dtype=np.int64) for part in lengths]
    return plan_block(arrays, sequence_length, packing, seed=5, place=(0, 0, 0))


def realistic_lengths(documents: int, seed: int = 0) -> np.ndarray:
    """Lengths as web text has them: log-normal, 500 tokens on average, some far longer."""
    lengths = np.random.default_rng(seed).lognormal(np.log(500) - 0.5, 1.0, documents)
    return np.maximum(lengths, 2).astype(np.int64)


@given(LENGTHS, st.integers(1, 64), st.sampled_from(["best_fit", "none"]))
@settings(max_examples=150, deadline=None)
def test_every_position_of_every_document_is_packed_once(
    lengths: list[list[int]], sequence_length: int, packing: str
) -> None:
    """Catches a piece lost, repeated or overlapping, and a row too long for the sequence."""
    planned = plan(lengths, sequence_length, packing)
    covered = []
    for row in range(planned.rows):
        pieces = planned.pieces(row)
        assert pieces, "a planned row holds something"
        assert packing == "best_fit" or len(pieces) == 1
        assert sum(length for *_, length in pieces) <= sequence_length
        for shard, document, start, length in pieces:
            assert length > 0
            covered += [(shard, document, start + offset) for offset in range(length)]
    expected = [
        (shard, document, position)
        for shard, part in enumerate(lengths)
        for document, tokens in enumerate(part)
        for position in range(tokens - 1)
    ]
    assert sorted(covered) == expected


def plainly_best_fit(sizes: list[int], capacity: int) -> list[int]:
    """The free space left in each row by the textbook rule, one item at a time."""
    free: list[int] = []
    for size in sizes:
        fitting = [space for space in free if space >= size]
        if fitting:
            free.remove(min(fitting))
            free.append(min(fitting) - size)
        else:
            free.append(capacity - size)
    return sorted(free)


@given(st.lists(st.integers(1, 40), max_size=80), st.integers(40, 60))
@settings(max_examples=150, deadline=None)
def test_bulk_packing_is_best_fit_decreasing(sizes: list[int], capacity: int) -> None:
    """Catches a shortcut for many equal sizes that packs worse than the rule it shortens."""
    ordered = sorted(sizes, reverse=True)
    groups = [(size, ordered.count(size)) for size in sorted(set(sizes), reverse=True)]
    rows = best_fit_decreasing(groups, capacity)
    count = int(rows.max()) + 1 if sizes else 0
    used = np.bincount(rows, weights=ordered, minlength=count) if sizes else np.array([])
    assert sorted((capacity - used).astype(int).tolist()) == plainly_best_fit(ordered, capacity)


def drawn_lengths(kind: str, tokens: int) -> np.ndarray:
    """Lengths of documents as texts of a kind have them, `tokens` in all."""
    generator = np.random.default_rng(3)
    count = tokens // 50
    if kind == "chat":
        # Short questions and answers, and long conversations.
        short = generator.normal(150, 40, count)
        long = generator.normal(1800, 500, count)
        lengths = np.where(generator.random(count) < 0.7, short, long)
    else:
        median, spread = {"web": (400, 1.2), "code": (700, 1.6), "docstrings": (110, 0.9)}[kind]
        lengths = generator.lognormal(np.log(median), spread, count)
    lengths = np.clip(lengths, 2, None).astype(np.int64)
    return lengths[: int(np.searchsorted(np.cumsum(lengths), tokens)) + 1]


def summary(lengths: np.ndarray, packing: str = "best_fit") -> PackingSummary:
    """Of shards and blocks as the recipe makes them by default."""
    shard_tokens = CorpusSection.model_fields["shard_tokens"].default
    borders = np.searchsorted(
        np.cumsum(lengths), np.arange(shard_tokens, lengths.sum(), shard_tokens)
    )
    block_shards = DataSection.model_fields["block_shards"].default
    return packing_summary(np.split(lengths, borders), 4096, packing, block_shards)


@pytest.mark.parametrize("kind", ["web", "code", "docstrings", "chat"])
def test_padding_is_under_two_percent(kind: str) -> None:
    """Would catch a packer that wastes the accelerator's time, at the recipe's own block size."""
    lengths = drawn_lengths(kind, 20_000_000)
    packed, alone = summary(lengths), summary(lengths, "none")
    assert packed.padding_share < 0.02
    assert alone.padding_share > 0.3, "the figure measures packing"
    positions = int((lengths - 1).sum())
    for found in (packed, alone):
        assert found.padding_share == pytest.approx(1 - positions / (found.sequences * 4096))
        assert found.split_documents == np.count_nonzero(lengths - 1 > 4096)


def test_a_block_smaller_than_a_row_is_mostly_padding() -> None:
    """Would catch a share of padding that leaves the last row of a block out."""
    found = packing_summary([np.array([11]), np.array([21])], 100, "best_fit", 1)
    assert found == PackingSummary(2, pytest.approx(0.85), 0)
    assert packing_summary([], 100, "best_fit") == PackingSummary(0, 0.0, 0)


@given(LENGTHS, st.integers(1, 64), st.sampled_from(["best_fit", "none"]))
@settings(max_examples=80, deadline=None)
def test_only_documents_longer_than_a_sequence_are_split(
    lengths: list[list[int]], sequence_length: int, packing: str
) -> None:
    """Would catch a document cut to fill a row, and a count of pieces in place of documents."""
    planned = plan(lengths, sequence_length, packing)
    pieces: dict[tuple[int, int], int] = {}
    for shard, document, _, _ in planned.table.tolist():
        pieces[shard, document] = pieces.get((shard, document), 0) + 1
    for (shard, document), count in pieces.items():
        assert count == -(-(lengths[shard][document] - 1) // sequence_length)
    assert planned.split_documents == sum(count > 1 for count in pieces.values())


def test_a_plan_takes_no_more_memory_a_document_than_it_says() -> None:
    """Would catch a planner whose memory is not what its docstring promises."""
    lengths = [part for part in np.array_split(drawn_lengths("web", 60_000_000), 8)]
    documents = sum(len(part) for part in lengths)
    plan_block(lengths, 4096, "best_fit", 0, (0, 0, 0))
    tracemalloc.start()
    planned = plan_block(lengths, 4096, "best_fit", 0, (0, 0, 0))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert planned.rows > 10_000
    assert kept / documents < 20 and peak / documents < 100


def test_planning_takes_a_few_lines_a_document() -> None:
    """Catches planning that would stall a worker between blocks: a search through all rows."""
    lengths = realistic_lengths(20000)
    assert lengths.sum() > 9e6
    # Measured: 6 lines a document, and 0.03 s for all ten million tokens.
    assert lines_run(lambda: plan([lengths.tolist()], 4096)) < 12 * len(lengths)


def test_a_plan_follows_from_seed_and_place() -> None:
    """Catches randomness from elsewhere, and an epoch that repeats the order of the last."""
    lengths = [realistic_lengths(200)]

    def documents(seed: int, epoch: int) -> list[list[int]]:
        return plan_block(lengths, 4096, "best_fit", seed, (0, epoch, 0)).table.tolist()

    assert documents(1, 0) == documents(1, 0)
    assert documents(1, 0) != documents(2, 0)
    assert documents(1, 0) != documents(1, 1)


def test_rows_are_shuffled() -> None:
    """Catches rows in the order of packing: long documents first, short ones at the block's end."""
    planned = plan([realistic_lengths(5000).tolist()], 4096)
    pieces = np.diff(planned.row_starts)
    half = len(pieces) // 2
    # About 9 pieces a row on average; packing order would give 4 in one half and 14 in the other.
    assert abs(pieces[:half].mean() - pieces[half:].mean()) < 2
