"""Boxes: the rectangular parts of a global tensor that ranks save and ask for."""

from collections.abc import Sequence
from math import prod

import numpy as np

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""(offset, shape), in elements of the global tensor; ((), ()) for a zero-dimensional tensor."""


def inside(offset: Sequence[int], shape: Sequence[int], outer: Sequence[int]) -> bool:
    """Whether the box lies inside a global tensor of shape `outer`."""
    return len(offset) == len(shape) == len(outer) and all(
        start >= 0 and size >= 0 and start + size <= limit
        for start, size, limit in zip(offset, shape, outer, strict=True)
    )


def intersect(first: Box, second: Box) -> Box | None:
    """The box that both cover, None where they have no element in common."""
    offset = tuple(map(max, first[0], second[0]))
    ends = (
        min(start + size, other_start + other_size)
        for start, size, other_start, other_size in zip(*first, *second, strict=True)
    )
    shape = tuple(end - start for start, end in zip(offset, ends, strict=True))
    return None if any(size <= 0 for size in shape) else (offset, shape)


def slices(box: Box, origin: Sequence[int]) -> tuple[slice, ...]:
    """The index of `box` in a tensor whose first element stands at `origin`."""
    return tuple(
        slice(start - zero, start - zero + size)
        for start, size, zero in zip(*box, origin, strict=True)
    )


def tiling_fault(boxes: Sequence[Box], shape: Sequence[int]) -> str | None:
    """Why the boxes do not cover a tensor of `shape` exactly once; None where they do.

    Boxes inside the tensor that do not overlap and whose volumes add up to the tensor's cover it.
    Sorted by the first axis, each is compared only with those that begin before it ends: the
    partitions in use cut mostly along that axis, so the cost is about n log n.
    """
    for offset, size in boxes:
        if not inside(offset, size, shape):
            return f"a piece at {list(offset)} of shape {list(size)} is outside {list(shape)}"
    if sum(prod(size) for _, size in boxes) > prod(shape):
        return "its pieces overlap"
    if sum(prod(size) for _, size in boxes) < prod(shape):
        return "its pieces leave a hole"
    if shape and len(boxes) > 1 and _overlap(boxes):
        return "its pieces overlap"
    return None


def _overlap(boxes: Sequence[Box]) -> bool:
    starts = np.array([offset for offset, _ in boxes], dtype=np.int64)  # [boxes, dimensions]
    ends = starts + np.array([size for _, size in boxes], dtype=np.int64)
    order = np.argsort(starts[:, 0], kind="stable")
    starts, ends = starts[order], ends[order]
    last = np.searchsorted(starts[:, 0], ends[:, 0])  # the first box that begins after this one
    for i in np.flatnonzero(last > np.arange(len(boxes)) + 1):
        after = slice(i + 1, last[i])
        if ((starts[after] < ends[i]) & (ends[after] > starts[i])).all(axis=1).any():
            return True
    return False
