"""The weighted mean of several models' weights, a part of a tensor at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor

from trainer.checkpoint.adapted import Reader
from trainer.checkpoint.fitted import WEIGHTS, FittedReader
from trainer.checkpoint.format import Piece
from trainer.errors import CheckpointError
from trainer.merging.parents import best_key

PART_ELEMENTS = 1 << 22
"""Elements of a tensor that are in memory at once: whole rows, 16 MiB in fp32."""


@dataclass(frozen=True)
class Term:
    """One model of a weighted mean: its weights in the shapes of the outcome, and its share.

    `wide`: whether its weights are worth fp32 however they are stored, as merged adapters are.
    """

    named: str
    reader: Reader | FittedReader
    share: float
    wide: bool

    def dtype(self, key: str) -> torch.dtype:
        """The type in which nothing of a weight is lost."""
        return torch.float32 if self.wide else self.reader.dtype(best_key(self.reader, key))

    def keys(self) -> set[str]:
        """The names of its weights."""
        return {key for key in self.reader.keys() if key.startswith(WEIGHTS)}  # noqa: SIM118


def blended(terms: Sequence[Term]) -> list[Piece]:
    """The mean as pieces whose values are computed when they are written.

    It is stored in the terms' own type where they share one, otherwise in fp32. Raises
    CheckpointError where a tensor is missing in one of them, or has another shape.
    """
    first, *others = terms
    for other in others:
        if lacking := sorted(first.keys() ^ other.keys()):
            holder, lacks = (first, other) if lacking[0] in first.reader else (other, first)
            raise CheckpointError(
                f"{holder.named} and {lacks.named} are different models: the second has no"
                f" {lacking[0]}; merge checkpoints of one model"
            )
    return [piece for key in sorted(first.keys()) for piece in _pieces(terms, key)]


def _pieces(terms: Sequence[Term], key: str) -> Iterator[Piece]:
    shapes = {term.reader.shape(key): term.named for term in terms}
    if len(shapes) > 1:
        (shape, named), (other, second) = list(shapes.items())[:2]
        raise CheckpointError(
            f"{named} and {second} are different models: {key} has shape {list(shape)} in the first"
            f" and {list(other)} in the second; merge checkpoints of one model"
        )
    (shape,) = shapes
    kinds = {term.dtype(key) for term in terms}
    dtype = kinds.pop() if len(kinds) == 1 else torch.float32
    rows = max(1, PART_ELEMENTS // max(1, prod(shape[1:])))
    for first in range(0, shape[0], rows):
        offset = (first, *(0 for _ in shape[1:]))
        part = (min(rows, shape[0] - first), *shape[1:])
        values = partial(_mean, terms, key, offset, part, dtype)
        yield Piece(key, shape, offset, torch.empty(part, dtype=dtype, device="meta"), values)


def _mean(
    terms: Sequence[Term],
    key: str,
    offset: tuple[int, ...],
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> Tensor:
    """The weighted mean of a box of one tensor, added up in fp32; what has no share is not read."""
    total = torch.zeros(shape)
    for term in terms:
        if term.share:
            values = term.reader.read(best_key(term.reader, key), offset, shape, torch.float32)
            total += values.mul_(term.share)
            term.reader.close()  # what is read of a mapped file stays resident
    mean = total.to(dtype)
    if not mean.isfinite().all():
        raise CheckpointError(f"{key} of the mean is not finite; look at what is merged")
    return mean
