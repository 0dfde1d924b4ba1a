"""A batch that crosses processes in few bytes comes out as the plainly assembled one."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

import kernels
from trainer.data.batch import IGNORE, PackedRows, RowsBeingFilled

LENGTH, END = 24, 7


def test_a_label_that_is_not_learnt_is_one_to_the_kernels() -> None:
    """Catches padding that is learnt: data and kernels each say which label is ignored."""
    for loss in (kernels.cross_entropy, kernels.linear_cross_entropy, cross_entropy):
        assert inspect.signature(loss).parameters["ignore_index"].default == IGNORE


def plainly(rows: list[list[np.ndarray]]) -> torch.Tensor:
    """Tokens, labels and positions, int64 [3, rows, LENGTH], a position at a time."""
    whole = torch.empty(3, len(rows), LENGTH, dtype=torch.int64)
    for row, pieces in enumerate(rows):
        columns = []
        for piece in pieces:
            for position in range(len(piece) - 1):
                columns.append((int(piece[position]), int(piece[position + 1]), position))
        padding = LENGTH - len(columns)
        columns += [(END, IGNORE, position) for position in range(padding)]
        whole[:, row] = torch.tensor(columns).T
    return whole


def packed_rows_of(rows: list[list[np.ndarray]]) -> PackedRows:
    filled = RowsBeingFilled(len(rows), LENGTH, END)
    for row in reversed(range(len(rows))):
        filled.fill(row, rows[row])
    return filled.pack(5, {"sequences": 9})


@st.composite
def packed_rows(draw) -> list[list[np.ndarray]]:
    """Rows with any pieces that fit, from none to a full row."""
    dtype = draw(st.sampled_from(["uint16", "uint32", "int64"]))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        pieces, left = [], LENGTH
        for wanted in draw(st.lists(st.integers(1, LENGTH), max_size=6)):
            if wanted <= left:
                pieces.append(generator.integers(0, 2**16, wanted + 1).astype(dtype))
                left -= wanted
        rows.append(pieces)
    return rows


@given(packed_rows())
@settings(max_examples=200, deadline=None)
def test_batches_are_the_plainly_assembled_ones(rows: list[list[np.ndarray]]) -> None:
    """Would catch a label from the next piece, a position that runs on, padding with a label."""
    packed = pickle.loads(pickle.dumps(packed_rows_of(rows)))
    batch = packed.unpack()
    found = torch.stack([batch.tokens, batch.labels, batch.position_ids])
    assert found.dtype == torch.int64 and torch.equal(found, plainly(rows))
    assert (batch.first_sequence, batch.state) == (5, {"sequences": 9})


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_a_packed_batch_is_as_small_as_the_stored_tokens(dtype: str) -> None:
    """Would catch padding or labels that widen every token on its way between processes."""
    rows = [[np.arange(LENGTH + 1).astype(dtype)] for _ in range(400)] + [[]]
    packed = packed_rows_of(rows)
    stored = 401 * LENGTH * np.dtype(dtype).itemsize
    assert packed.tokens.nbytes == stored
    # One piece a row: 16 bytes each beside the tokens.
    assert len(pickle.dumps(packed)) < stored + 16 * 401 + 1000


def test_largest_tokens_survive() -> None:
    """Would catch a sign: ids over 2^31 stored as uint32, or over 2^15 as uint16."""
    for dtype in ("uint16", "uint32"):
        largest = np.iinfo(dtype).max
        batch = packed_rows_of([[np.array([1, largest, largest], dtype=dtype)]]).unpack()
        assert batch.tokens[0, 1] == batch.labels[0, 0] == batch.labels[0, 1] == largest


def test_batches_do_not_share_memory() -> None:
    """Would catch a batch kept by the loop that the next one overwrites."""
    packed = packed_rows_of([[np.arange(5, dtype="uint16")]])
    first, second = packed.unpack(), packed.unpack()
    first.tokens.zero_()
    assert second.tokens[0, 4 - 1] == 3
