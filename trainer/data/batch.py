"""A batch of packed rows: tokens, labels, and positions that restart at each document."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kernels.cross_entropy import IGNORE
from trainer.data.token_flags import GOOD, ID_MASK, TARGET


@dataclass(frozen=True)
class Segments:
    """The answers of rows that hold pairs, two after two; padding is none.

    `counts`: how many a row has, int64 [rows]. `reference`: the reference's log-probability of each
    answer in nats, float32 [rows, most], 0 beyond the counts; `good`: whether it was judged so,
    bool [rows, most].
    """

    counts: torch.Tensor
    reference: torch.Tensor
    good: torch.Tensor

    def pinned(self) -> "Segments":
        """The same, what goes to the device in pinned memory."""
        return Segments(self.counts, self.reference.pin_memory(), self.good.pin_memory())


@dataclass(frozen=True)
class Batch:
    """Some rows of one global batch, with the state of the stream after the whole of it.

    `tokens`, `labels` and `position_ids` are int64 [rows, sequence_length]. `position_ids` is 0 at
    the first position of each document (or piece of one), and of the padding: attention crosses
    none of these borders. `first_sequence` counts from the run's first sequence, 0; `padding` is
    how many positions hold no token. `segments` tells the answers of pairs apart.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    first_sequence: int
    state: dict[str, Any]
    padding: int = 0
    segments: Segments | None = None

    @cached_property
    def supervised(self) -> int:
        """How many tokens of these rows have a label."""
        return int((self.labels != IGNORE).sum())

    def first_answers(self) -> "Batch":
        """The batch in which only the first answer of each pair is a target; others are as are."""
        if self.segments is None:
            return self
        second = ((self.position_ids == 0).cumsum(dim=1) - 1) % 2 == 1
        return replace(self, labels=self.labels.masked_fill(second, IGNORE))


@dataclass(frozen=True)
class PackedRows:
    """A batch in the fewest bytes, to cross between processes once.

    `tokens` [rows, sequence_length] are in the stored type, with their marks where they are
    `marked`. Each row is cut into segments: its pieces, then its padding if there is some.
    `lengths` are those of all segments in order, int64 [segments], and `closing` is the label of
    each one's last position, int64 [segments], IGNORE for padding. Any other label is the token one
    further. `references` is of all segments too, float32 [segments], where the rows hold pairs.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    closing: np.ndarray
    first_sequence: int
    state: dict[str, Any]
    marked: bool = False
    references: np.ndarray | None = None

    def unpack(self, pinned: bool = False) -> Batch:
        """The batch, where `pinned` in memory that a GPU reads without the host waiting for it."""
        rows, sequence_length = self.tokens.shape
        whole = torch.empty(3, rows, sequence_length, dtype=torch.int64, pin_memory=pinned)
        tokens, labels, positions = whole.numpy().reshape(3, -1)
        tokens[:] = self.tokens.reshape(-1)
        labels[:-1] = tokens[1:]
        ends = np.cumsum(self.lengths)
        labels[ends - 1] = self.closing
        padded = np.flatnonzero(self.closing == IGNORE)
        for padding in padded.tolist():
            labels[ends[padding] - self.lengths[padding] : ends[padding]] = IGNORE
        ascending = np.arange(sequence_length)
        if len(ends):
            runs = [ascending[:length] for length in self.lengths.tolist()]
            np.concatenate(runs, out=positions)
        segments = None
        if self.marked:
            if self.references is not None:
                segments = self._segments(tokens, ends, rows, sequence_length, self.references)
                if pinned:
                    segments = segments.pinned()
            tokens &= ID_MASK
            labels[:] = np.where((labels >= 0) & (labels & TARGET != 0), labels & ID_MASK, IGNORE)
        padding = int(self.lengths[padded].sum())
        first, state = self.first_sequence, self.state
        return Batch(whole[0], whole[1], whole[2], first, state, padding, segments)

    def _segments(
        self,
        tokens: np.ndarray,
        ends: np.ndarray,
        rows: int,
        sequence_length: int,
        references: np.ndarray,
    ) -> Segments:
        real = self.closing != IGNORE
        starts = ends[real] - self.lengths[real]
        row = starts // sequence_length
        counts = np.bincount(row, minlength=rows)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        most = max(int(counts.max(initial=0)), 2)
        reference = np.zeros((rows, most), dtype=np.float32)
        good = np.zeros((rows, most), dtype=bool)
        reference[row, place] = references[real]
        good[row, place] = tokens[starts] & GOOD != 0
        return Segments(*map(torch.from_numpy, (counts.astype(np.int64), reference, good)))


class RowsBeingFilled:
    """Rows being filled; a row that never is holds padding alone.

    `marked`: whether pieces carry marks; `answers`: whether each comes with a reference.
    """

    def __init__(
        self,
        count: int,
        sequence_length: int,
        end_of_text: int,
        marked: bool = False,
        answers: bool = False,
    ):
        self._sequence_length = sequence_length
        # Of the smallest type: what it is joined with decides on the type of the whole.
        self._padding = np.full(sequence_length, end_of_text, dtype=np.min_scalar_type(end_of_text))
        self._rows: list[Sequence[np.ndarray]] = [()] * count
        self._marked, self._answers = marked, answers
        self._references: list[Sequence[float]] = [()] * count

    def fill(
        self, row: int, pieces: Sequence[np.ndarray], references: Sequence[float] = ()
    ) -> None:
        """Lay pieces (the tokens of n positions and the label after the last, [n + 1]) in a row."""
        self._rows[row] = pieces
        self._references[row] = references

    def parcel(self, first_sequence: int, state: dict[str, Any]) -> PackedRows:
        """The filled rows."""
        segments, lengths, closing = [self._padding[:0]], [], []
        references: list[float] = []
        for pieces, known in zip(self._rows, self._references, strict=True):
            left = self._sequence_length
            for piece in pieces:
                length = len(piece) - 1
                segments.append(piece[:-1])
                lengths.append(length)
                closing.append(piece[-1])
                left -= length
            references.extend(known)
            if left:
                segments.append(self._padding[:left])
                lengths.append(left)
                closing.append(IGNORE)
                references.append(0.0)
        return PackedRows(
            np.concatenate(segments).reshape(len(self._rows), self._sequence_length),
            np.array(lengths, dtype=np.int64),
            np.array(closing, dtype=np.int64),
            first_sequence,
            state,
            self._marked,
            np.array(references, dtype=np.float32) if self._answers else None,
        )
