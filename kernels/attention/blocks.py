"""What the forward and the backward kernels share: reading blocks, and which of them to visit."""

from kernels.language import tl, triton


@triton.jit
def at(pointer, row, stride):
    """`pointer`, `row` rows further on, counted in 64 bits: tensors exceed 2^31 elements."""
    return pointer + (tl.zeros((), tl.int64) + row) * stride


@triton.jit
def load_rows(
    pointer,
    stride,
    rows,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BOUNDED: tl.constexpr,
):
    """ROWS rows of HEAD channels as [ROWS, WIDTH]; 0 beyond the channels, and beyond `rows`."""
    row = tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    address = pointer + row * stride + channel
    if BOUNDED:
        loaded = tl.load(address, mask=(row < rows) & (channel < HEAD), other=0.0)
    elif HEAD < WIDTH:
        loaded = tl.load(address, mask=channel < HEAD, other=0.0)
    else:
        loaded = tl.load(address)
    return loaded


@triton.jit
def store_rows(
    pointer, stride, rows, values, HEAD: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr
):
    """The reverse of `load_rows`."""
    row = tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (channel < HEAD)
    tl.store(pointer + row * stride + channel, values.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def visits(low, high, start, stop, BLOCK: tl.constexpr):
    """Which blocks of the other side the rows start..stop-1 need: the edges, and the middle.

    Blocks that all the rows see as a whole need no mask: the middle. Returns the middle's first
    place and number of blocks; then the edges' number of blocks, how many of them lie left of the
    middle, and the first place left of the middle and the first one right of it.
    """
    low_first, low_last = tl.load(low + start), tl.load(low + stop - 1)
    high_first, high_last = tl.load(high + start), tl.load(high + stop - 1)
    begin = low_first // BLOCK * BLOCK
    middle_begin = (low_last + BLOCK - 1) // BLOCK * BLOCK
    middle_end = (high_first + 1) // BLOCK * BLOCK
    middle = tl.maximum((middle_end - middle_begin) // BLOCK, 0)
    left = tl.maximum((high_last + BLOCK - begin) // BLOCK, 0)
    right = left * 0
    if middle > 0:
        left = (middle_begin - begin) // BLOCK
        right = (high_last + BLOCK - middle_end) // BLOCK
    return middle_begin, middle, left + right, left, begin, middle_end


@triton.jit
def visited(index, left, begin, resume, BLOCK: tl.constexpr):
    """Where the edges' block `index` begins."""
    return tl.where(index < left, begin + index * BLOCK, resume + (index - left) * BLOCK)
