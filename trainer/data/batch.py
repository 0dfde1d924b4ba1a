"""A batch of packed rows: tokens, labels, and positions that restart at each document."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kernels.cross_entropy import IGNORE


@dataclass(frozen=True)
class Batch:
    """Some rows of one global batch, with the state of the stream after the whole of it.

    `tokens`, `labels` and `position_ids` are int64 [rows, sequence_length]. `position_ids` is 0 at
    the first position of each document (or piece of one), and of the padding: attention crosses
    none of these borders. `first_sequence` counts from the run's first sequence, 0.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    first_sequence: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Parcel:
    """A batch in the fewest bytes, to cross between processes once.

    `tokens` [rows, sequence_length] are in the stored type. Each row is cut into segments: its
    pieces, then its padding if there is some. `lengths` are those of all segments in order, int64
    [segments], and `closing` is the label of each one's last position, int64 [segments], IGNORE for
    padding. Any other label is the token one further.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    closing: np.ndarray
    first_sequence: int
    state: dict[str, Any]

    def unpack(self) -> Batch:
        """The batch."""
        rows, sequence_length = self.tokens.shape
        whole = torch.empty(3, rows, sequence_length, dtype=torch.int64)
        tokens, labels, positions = whole.numpy().reshape(3, -1)
        tokens[:] = self.tokens.reshape(-1)
        labels[:-1] = tokens[1:]
        ends = np.cumsum(self.lengths)
        labels[ends - 1] = self.closing
        for padding in np.flatnonzero(self.closing == IGNORE).tolist():
            labels[ends[padding] - self.lengths[padding] : ends[padding]] = IGNORE
        ascending = np.arange(sequence_length)
        if len(ends):
            runs = [ascending[:length] for length in self.lengths.tolist()]
            np.concatenate(runs, out=positions)
        return Batch(whole[0], whole[1], whole[2], self.first_sequence, self.state)


class Rows:
    """Rows being filled; a row that never is holds padding alone."""

    def __init__(self, count: int, sequence_length: int, end_of_text: int):
        self._sequence_length = sequence_length
        # Of the smallest type: what it is joined with decides on the type of the whole.
        self._padding = np.full(sequence_length, end_of_text, dtype=np.min_scalar_type(end_of_text))
        self._rows: list[Sequence[np.ndarray]] = [()] * count

    def fill(self, row: int, pieces: Sequence[np.ndarray]) -> None:
        """Lay pieces (the tokens of n positions and the label after the last, [n + 1]) in a row."""
        self._rows[row] = pieces

    def parcel(self, first_sequence: int, state: dict[str, Any]) -> Parcel:
        """The filled rows."""
        segments, lengths, closing = [self._padding[:0]], [], []
        for pieces in self._rows:
            left = self._sequence_length
            for piece in pieces:
                length = len(piece) - 1
                segments.append(piece[:-1])
                lengths.append(length)
                closing.append(piece[-1])
                left -= length
            if left:
                segments.append(self._padding[:left])
                lengths.append(left)
                closing.append(IGNORE)
        return Parcel(
            np.concatenate(segments).reshape(len(self._rows), self._sequence_length),
            np.array(lengths, dtype=np.int64),
            np.array(closing, dtype=np.int64),
            first_sequence,
            state,
        )
