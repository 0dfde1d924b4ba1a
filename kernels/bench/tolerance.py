"""How far a kernel may be from its fp64 reference: what the dtype's roundings add up to."""

import math

import torch
from torch import Tensor


def tolerance(dtype: torch.dtype, terms: int = 1, roundings: int = 1) -> float:
    """The error allowed, relative to the largest element of the result.

    Each rounding to `dtype` costs half a unit in the last place (eps / 2). Sums of `terms` products
    are in fp32, whose rounding errors behave like a random walk: eps * sqrt(terms), six deviations.
    """
    unit = torch.finfo(dtype).eps / 2
    return roundings * unit * 1.01 + 6 * torch.finfo(torch.float32).eps * math.sqrt(max(terms, 1))


def relative_error(found: Tensor, right: Tensor, scale: float = 0.0) -> float:
    """The largest error, relative to the largest |right| or `scale`, whichever is larger.

    Infinite where the shapes differ, or where either is not finite.
    """
    if found.shape != right.shape:
        return math.inf
    if not right.numel():
        return 0.0
    wide, right = found.detach().double(), right.detach().double()
    error, largest = (wide - right).abs().max().item(), max(scale, right.abs().max().item())
    if not (math.isfinite(error) and math.isfinite(largest)):
        return math.inf
    return error / largest if largest else (0.0 if error == 0.0 else math.inf)
