"""A batch of packed rows: tokens, labels, and positions that restart at each document."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

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
    """A batch as one tensor, int64 [3, rows, sequence_length], to cross between processes once."""

    rows: torch.Tensor
    first_sequence: int
    state: dict[str, Any]

    def unpack(self) -> Batch:
        """The batch, sharing the parcel's memory."""
        tokens, labels, position_ids = self.rows
        return Batch(tokens, labels, position_ids, self.first_sequence, self.state)


class Rows:
    """Rows being filled; each must be, with no pieces where it is all padding."""

    def __init__(self, count: int, sequence_length: int, end_of_text: int):
        shape = (3, count, sequence_length)
        if get_worker_info() is None:
            self._tensor = torch.empty(shape, dtype=torch.int64)
        else:
            # Filled where the training process will read it, instead of copied there later.
            storage = torch.UntypedStorage._new_shared(8 * math.prod(shape))
            self._tensor = torch.empty(0, dtype=torch.int64).set_(storage).view(shape)
        self._tokens, self._labels, self._positions = self._tensor.numpy()
        self._ascending = np.arange(sequence_length)
        self._end_of_text = end_of_text

    def fill(self, row: int, pieces: Sequence[np.ndarray]) -> None:
        """Lay pieces (the tokens of n positions and the label after the last, [n + 1]) in a row."""
        tokens, labels, positions = self._tokens[row], self._labels[row], self._positions[row]
        place = 0
        for piece in pieces:
            length = len(piece) - 1
            stop = place + length
            tokens[place:stop] = piece[:-1]
            labels[place:stop] = piece[1:]
            positions[place:stop] = self._ascending[:length]
            place = stop
        tokens[place:] = self._end_of_text
        labels[place:] = IGNORE
        positions[place:] = self._ascending[: len(positions) - place]

    def parcel(self, first_sequence: int, state: dict[str, Any]) -> Parcel:
        """The filled rows."""
        return Parcel(self._tensor, first_sequence, state)
