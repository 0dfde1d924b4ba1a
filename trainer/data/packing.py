"""Packing: which pieces of which documents share a row, planned for a block of shards at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from trainer.data.order import Purpose, permutation


@dataclass(frozen=True)
class PackingPlan:
    """The packed rows of a block, in the order in which they are read.

    `table` holds (shard, document, start, length) of each piece, int32 [pieces, 4]: the piece takes
    `length` positions from position `start` of a document of the block's shard number `shard`; its
    inputs are tokens start .. start + length - 1, its labels the tokens one further. Row r is made
    of pieces `row_starts[r]:row_starts[r + 1]`; int64 [rows + 1].
    """

    table: np.ndarray
    row_starts: np.ndarray

    @property
    def rows(self) -> int:
        """Number of packed sequences in the block."""
        return len(self.row_starts) - 1

    @property
    def split_documents(self) -> int:
        """Number of documents that were longer than a row and so were cut into several pieces."""
        later = self.table[self.table[:, 2] > 0, :2]
        return len(np.unique(later, axis=0))

    def pieces(self, row: int) -> list[list[int]]:
        """The [shard, document, start, length] of each piece of a row, in order."""
        pieces: list[list[int]] = self.table[
            self.row_starts[row] : self.row_starts[row + 1]
        ].tolist()
        return pieces


def plan_block(
    lengths: Sequence[np.ndarray],
    sequence_length: int,
    packing: str,
    seed: int,
    place: tuple[int, ...],
    segments: int = 1,
) -> PackingPlan:
    """Shuffle and pack the documents of a block, from their lengths alone.

    `lengths` holds the stored tokens of each document, int64 [documents], one array a shard;
    `packing` is "best_fit", or "none" for one piece a row. `place` (source, epoch, block) and
    `seed` determine the shuffle. Every position of every document is in exactly one piece. An
    example of n tokens in `segments` segments has n - segments positions, since the last token of
    each segment is a label only; one of several segments must fit into a row.
    Memory: 20 bytes a document for the plan, at most 100 while it is made.
    """
    table = _split_documents(lengths, sequence_length, segments)
    shuffled = permutation(len(table), seed, Purpose.DOCUMENTS, *place)
    sizes = table[shuffled, 3]
    rows = np.arange(len(sizes)) if packing == "none" else pack_rows(sizes, sequence_length)
    count = int(rows.max()) + 1 if len(rows) else 0
    rows = permutation(count, seed, Purpose.ROWS, *place)[rows]
    row_starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    return PackingPlan(table[shuffled[np.argsort(rows, kind="stable")]], row_starts)


class PackingSummary(NamedTuple):
    """How documents fill sequences."""

    sequences: int
    padding_share: float
    """Share of all positions that hold no token, 0 to 1."""
    split_documents: int
    """Documents longer than a sequence, which span several; no document is truncated."""


def packing_summary(
    lengths: Iterable[np.ndarray], sequence_length: int, packing: str, block_shards: int = 8
) -> PackingSummary:
    """How well documents pack, from their lengths in stored tokens: int64 [documents], one a shard.

    Blocks are `block_shards` consecutive shards, one in memory at a time; a real epoch shuffles the
    shards first, so its figures differ a little.
    """
    shards = iter(lengths)
    sequences = positions = split = number = 0
    while block := list(islice(shards, block_shards)):
        plan = plan_block(block, sequence_length, packing, 0, (0, 0, number))
        sequences += plan.rows
        positions += int(plan.table[:, 3].sum(dtype=np.int64))
        split += plan.split_documents
        number += 1
    space = sequences * sequence_length
    return PackingSummary(sequences, 1 - positions / space if space else 0.0, split)


def _split_documents(
    lengths: Sequence[np.ndarray], sequence_length: int, segments: int
) -> np.ndarray:
    """Cut documents longer than a row; returns the pieces as in `PackingPlan.table`."""
    # A segment of n tokens has n - 1 positions: its last token is a label only.
    positions = np.concatenate([np.asarray(part, dtype=np.int64) for part in lengths]) - segments
    cuts = -(-positions // sequence_length)
    piece_document = np.repeat(np.arange(len(positions)), cuts)
    start = np.arange(len(piece_document)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
    start *= sequence_length
    counts = [len(part) for part in lengths]
    table = np.empty((len(piece_document), 4), dtype=np.int32)
    table[:, 0] = np.repeat(np.arange(len(counts)), counts)[piece_document]
    table[:, 1] = np.concatenate([np.arange(count) for count in counts])[piece_document]
    table[:, 2] = start
    table[:, 3] = np.minimum(positions[piece_document] - start, sequence_length)
    return table


def pack_rows(sizes: np.ndarray, capacity: int) -> np.ndarray:
    """The row of each size, int64 [sizes], by best-fit decreasing; none is above `capacity`."""
    # 16-bit keys are sorted by radix, several times faster than wider ones.
    keys = (capacity - sizes).astype(np.uint16 if capacity < 2**16 else np.uint32)
    order = np.argsort(keys, kind="stable")
    counts = np.bincount(sizes, minlength=1)
    distinct = np.flatnonzero(counts)[::-1]
    groups = list(zip(distinct.tolist(), counts[distinct].tolist(), strict=True))
    rows = np.empty(len(sizes), dtype=np.int64)
    rows[order] = best_fit_decreasing(groups, capacity)
    return rows


def best_fit_decreasing(groups: Sequence[tuple[int, int]], capacity: int) -> np.ndarray:
    """Put each item into the fullest row that still holds it, the longest items first.

    `groups` are (size, number of items of that size), sizes descending, none above `capacity`.
    Returns the row of each item, int64 [items], in the order of the groups. Best-fit packing: Ding
    et al., "Fewer Truncations Improve Language Modeling", 2024. Items of one size are assigned
    together, and rows of equal free space are grouped, so the work grows with the number of
    distinct sizes and not with the number of items.
    """
    assigned: list[int] = []
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]
    spaces = 0  # bit s is set while some open row has s positions free
    created = 0
    for size, count in groups:
        while count:
            fitting = spaces >> size
            if fitting:
                space = size + (fitting & -fitting).bit_length() - 1
                candidates = open_rows[space]
            else:
                space = capacity
                candidates = open_rows[space]
                needed = -(-count // (capacity // size))
                candidates.extend(range(created, created + needed))
                created += needed
            # Having taken one item, a row is the fullest that fits: it takes all that it can.
            each = space // size
            number = min(len(candidates), count // each)
            if number == 0:
                each, number = count, 1
            chosen = candidates[-number:]
            del candidates[-number:]
            if each == 1:
                assigned.extend(chosen)
            else:
                assigned.extend(row for row in chosen for _ in range(each))
            count -= each * number
            left = space - each * size
            if not candidates:
                spaces &= ~(1 << space)
            elif space == capacity:
                spaces |= 1 << space
            if left:
                open_rows[left].extend(chosen)
                spaces |= 1 << left
    return np.array(assigned, dtype=np.int64)
