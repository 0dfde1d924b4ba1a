"""The norms in PyTorch: statistics and product in fp32 (fp64 for fp64), rounded once."""

import torch
from torch import Tensor


def rms_norm_reference(
    x: Tensor, weight: Tensor | None, eps: float = 1e-5, zero_centered: bool = False
) -> Tensor:
    """`rms_norm`, [..., hidden] -> the same; torch's own operator, one pass on the CPU too."""
    wide = _wide(x)
    factor = _factor(weight, wide, zero_centered)
    return torch.nn.functional.rms_norm(wide, x.shape[-1:], factor, eps).to(x.dtype)


def layer_norm_reference(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
    zero_centered: bool = False,
) -> Tensor:
    """`layer_norm`, [..., hidden] -> the same; torch's own operator."""
    wide = _wide(x)
    factor = _factor(weight, wide, zero_centered)
    shift = bias.to(wide.dtype) if bias is not None else None
    return torch.nn.functional.layer_norm(wide, x.shape[-1:], factor, shift, eps).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _factor(weight: Tensor | None, wide: Tensor, zero_centered: bool) -> Tensor | None:
    if weight is None:
        return None
    return weight.to(wide.dtype) + 1.0 if zero_centered else weight.to(wide.dtype)
