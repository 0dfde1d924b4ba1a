"""The norms in PyTorch: statistics and product in fp32 (fp64 for fp64), rounded once."""

import torch
from torch import Tensor


def rms_norm_reference(
    x: Tensor, weight: Tensor | None, eps: float = 1e-5, zero_centered: bool = False
) -> Tensor:
    """`rms_norm`, [..., hidden] -> the same; torch's own operator, one pass on the CPU too."""
    wide = _wide(x)
    factor = _factor(weight, wide, zero_centered)
    return _as(torch.rms_norm(wide, x.shape[-1:], factor, eps), x.dtype)


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
    shift = None if bias is None else _as(bias, wide.dtype)
    return _as(torch.nn.functional.layer_norm(wide, x.shape[-1:], factor, shift, eps), x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x


def _factor(weight: Tensor | None, wide: Tensor, zero_centered: bool) -> Tensor | None:
    if weight is None:
        return None
    factor = _as(weight, wide.dtype)
    return factor + 1.0 if zero_centered else factor


def _as(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, which costs something where there is nothing to do."""
    return x if x.dtype == dtype else x.to(dtype)
