"""A batch of packed rows: tokens, labels, and positions that restart at each document."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from trainer.data.token_flags import GOOD, ID_MASK, TARGET

IGNORE = -100
"""The label of a position that is not learnt: the `ignore_index` of torch, and of our kernels.

Not taken from there: whoever only reads data would load every kernel with it.
"""


@dataclass(frozen=True)
class Segments:
    """The answers in rows of pairs, the two of a pair side by side; padding is not an answer.

    `counts`: answers in each row, int64 [rows]. `reference`: the reference model's log-probability
    of each answer in nats, float32 [rows, most], 0 beyond the row's count. `good`: whether the
    answer was judged good, bool [rows, most]. `most` is the largest count, and at least 2.
    """

    counts: torch.Tensor
    reference: torch.Tensor
    good: torch.Tensor

    def pinned(self) -> "Segments":
        """A copy whose `reference` and `good` are in pinned memory; `counts` stays on the host."""
        return Segments(self.counts, self.reference.pin_memory(), self.good.pin_memory())


@dataclass(frozen=True)
class Batch:
    """Some rows of one global batch, with the state of the stream after the whole batch.

    `tokens`, `labels` and `position_ids` are int64 [rows, sequence_length]; a label that is not
    learnt is IGNORE. `position_ids` restarts at 0 at each document (or piece of one) and at the
    padding: attention crosses none of these borders. `first_sequence` is the index in the run of
    the global batch's first sequence, from 0. `state`: what `Stream.load_state` takes to resume
    after this batch. `padding` is the number of positions without a token. `segments` describes the
    answers of pairs, None for other data.
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
        """The batch with labels on the first answer of each pair only; other data unchanged."""
        if self.segments is None:
            return self
        second = ((self.position_ids == 0).cumsum(dim=1) - 1) % 2 == 1
        return replace(self, labels=self.labels.masked_fill(second, IGNORE))


@dataclass(frozen=True)
class PackedRows:
    """A batch in compact form, small enough to be sent from a worker process.

    `tokens` [rows, sequence_length] are in the stored type, uint16 or uint32; where `marked`, with
    the flag bits of trainer.data.token_flags. Each row is cut into segments: its pieces, then its
    padding if there is any. `lengths`, int64 [segments], holds the length of each segment in order;
    `closing`, int64 [segments], the label of its last position, IGNORE for padding. Every other
    label is the next token. `references`, float32 [segments], holds the reference model's
    log-probabilities in nats where the rows hold pairs. `first_sequence` and `state` are those of
    `Batch`.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    closing: np.ndarray
    first_sequence: int
    state: dict[str, Any]
    marked: bool = False
    references: np.ndarray | None = None

    def unpack(self, pinned: bool = False) -> Batch:
        """The batch; `pinned`: in pinned memory, so that copies to a GPU are asynchronous."""
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
    """The rows of a batch while it is put together; a row that is not filled is all padding.

    `count`: the number of rows; `end_of_text`: the token that pads them; `marked`: whether pieces
    carry the bits of trainer.data.token_flags; `answers`: whether each piece comes with a reference
    log-probability.
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
        # Of the smallest type, so that concatenation takes the type of the pieces.
        self._padding = np.full(sequence_length, end_of_text, dtype=np.min_scalar_type(end_of_text))
        self._rows: list[Sequence[np.ndarray]] = [()] * count
        self._marked, self._answers = marked, answers
        self._references: list[Sequence[float]] = [()] * count

    def fill(
        self, row: int, pieces: Sequence[np.ndarray], references: Sequence[float] = ()
    ) -> None:
        """Set the pieces of a row, each of n positions and the label after the last, [n + 1].

        `references`: the log-probability of each piece in nats, where the pieces are answers.
        """
        self._rows[row] = pieces
        self._references[row] = references

    def pack(self, first_sequence: int, state: dict[str, Any]) -> PackedRows:
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
