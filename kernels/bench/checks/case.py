"""One operator at one shape and dtype, and what is compared of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Held:
    """One result or gradient beside what it should be."""

    name: str
    """As "y" or "dweight"."""
    found: Tensor
    right: Tensor
    """fp64, or what converts to it exactly."""
    allowed: float
    """Of the error, relative to the largest element of `right`, or `scale` where that is larger."""
    scale: float = 0.0


@dataclass(frozen=True)
class CheckCase:
    """What runs once: the operator forward and backward, and its fp64 reference."""

    operator: str
    size: str
    """In words, as "127 x 129"."""
    dtype: torch.dtype
    run: Callable[[], Iterator[Held]]


Checks = Callable[[torch.device, bool], Iterator[CheckCase]]
"""Of (device, small): `small` leaves out production widths, which take an interpreter too long."""

DTYPES = (torch.float32, torch.bfloat16)


def drawn(
    *shape: int, dtype: torch.dtype = torch.float32, device: torch.device, factor: float = 1.0
) -> Tensor:
    """A leaf of normal random numbers."""
    return (factor * torch.randn(shape, device=device)).to(dtype).requires_grad_()


def wide(*tensors: Tensor) -> list[Tensor]:
    """fp64 leaves with the same values."""
    return [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in tensors]
