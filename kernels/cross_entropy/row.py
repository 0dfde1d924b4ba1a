"""How the kernels read a row of logits: in vectors of 16 bytes, wherever the row starts."""

from typing import Any

from torch import Tensor

from kernels.language import tl, triton
from kernels.tiles import tile

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def row_of(base, row, stride, VECTOR: tl.constexpr, ALIGNED: tl.constexpr):
    """Where a row's first vector starts, and at which of its elements the row begins."""
    offset = row * stride
    if ALIGNED:
        start = base + offset
        begin = 0
    else:
        start = base + offset // VECTOR * VECTOR
        begin = (offset % VECTOR).to(tl.int32)
    return start, begin


@triton.jit
def load(row, columns, begin, end, whole, wanted, ALIGNED: tl.constexpr, KEEP: tl.constexpr):
    """The columns in fp32; -inf outside of the row, and everywhere unless wanted."""
    eviction: tl.constexpr = "evict_last" if KEEP else "evict_first"
    if ALIGNED:
        inside = (columns < end) & wanted
        values = tl.load(row + columns, mask=inside, other=float("-inf"), eviction_policy=eviction)
    else:
        # A mask that doesn't keep to vectors makes scalar loads.
        if whole & wanted:
            values = tl.load(row + columns, eviction_policy=eviction)
        else:
            inside = (columns >= begin) & (columns < end) & wanted
            values = tl.load(
                row + columns, mask=inside, other=float("-inf"), eviction_policy=eviction
            )
    return values.to(tl.float32)


@triton.jit
def store(row, columns, begin, end, whole, values, ALIGNED: tl.constexpr):
    """Write the columns that lie in the row, rounded to its dtype."""
    values = values.to(row.dtype.element_ty)
    if ALIGNED:
        tl.store(row + columns, values, mask=columns < end, eviction_policy="evict_first")
    else:
        if whole:
            tl.store(row + columns, values, eviction_policy="evict_first")
        else:
            inside = (columns >= begin) & (columns < end)
            tl.store(row + columns, values, mask=inside, eviction_policy="evict_first")


@triton.jit
def read_row(
    row,
    begin,
    end,
    SMOOTHED: tl.constexpr,
    ALIGNED: tl.constexpr,
    KEEP: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """(maximum, sum of exp(logit - maximum), sum of logits) of a row's slice.

    KEEP: it will be read again soon, from L2.
    """
    lane = tl.arange(0, BLOCK // VECTOR)[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    highest = tl.full((BLOCK // VECTOR,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK // VECTOR,), tl.float32)
    totals = tl.zeros((BLOCK // VECTOR,), tl.float32)
    for start in range(0, end, BLOCK):
        columns = start + lane
        whole = (start >= begin) & (start + BLOCK <= end)
        values = load(row, columns, begin, end, whole, True, ALIGNED, KEEP)
        new = tl.maximum(highest, tl.max(values, axis=1))
        shift = tl.where(new == float("-inf"), 0.0, new)
        exponentials = tl.exp2((values - shift[:, None]) * LOG2_E)
        sums = sums * tl.exp2((highest - shift) * LOG2_E) + tl.sum(exponentials, axis=1)
        highest = new
        if SMOOTHED:
            inside = (columns >= begin) & (columns < end)
            totals += tl.sum(tl.where(inside, values, 0.0), axis=1)
    top = tl.max(highest, axis=0)
    shift = tl.where(top == float("-inf"), 0.0, top)
    return top, tl.sum(sums * tl.exp2((highest - shift) * LOG2_E), axis=0), tl.sum(totals, axis=0)


@triton.jit
def label_of(labels, row, first, width, vocab, ignore_index):
    """(its column in this slice or -1, whether it counts, 0 or NaN where there is no such id)."""
    label = tl.load(labels + row)
    wanted = label != ignore_index
    column = label - first
    owned = wanted & (column >= 0) & (column < width)
    unknown = wanted & ((label < 0) | (label >= vocab))
    return (
        tl.where(owned, column, -1).to(tl.int32),
        wanted,
        tl.where(unknown, float("nan"), 0.0).to(tl.float32),
    )


def constants(kernel: str, logits: Tensor, *strides: int) -> dict[str, Any]:
    """How rows are read, in vectors of 16 bytes, and the kernel's tile for that.

    Rows are aligned where each starts and ends on such a vector; `strides`: those of other tensors.
    """
    width = logits.shape[1]
    # Triton knows of a multiple of 16, and of no smaller one, when it compiles.
    aligned = all(number % 16 == 0 for number in (width, logits.stride(0), *strides))
    name = f"cross_entropy.{kernel}" if aligned else f"cross_entropy.{kernel}_odd"
    vectors = {"VECTOR": 16 // logits.element_size(), "ALIGNED": aligned}
    return vectors | tile(name, width, logits.device)
