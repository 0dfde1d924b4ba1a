"""Holding a kernel against its fp64 reference, with tolerances that follow from the dtype."""

import torch
from torch import Tensor

from kernels.bench.tolerance import tolerance

__all__ = ["DTYPES", "ODD_ROWS", "ODD_WIDTHS", "assert_close", "tolerance", "wide"]

DTYPES = [torch.float32, torch.bfloat16]
ODD_ROWS = [1, 3, 127]
ODD_WIDTHS = [1, 3, 127, 128, 129]


def assert_close(
    name: str, found: Tensor, right: Tensor, allowed: float, scale: float = 0.0
) -> None:
    """Fail unless `found` is right within `allowed` times the largest |right| (or `scale`).

    Infinities and NaN must be in the same places.
    """
    assert found.shape == right.shape, f"{name}: shape {found.shape}, not {right.shape}"
    wide, right = found.detach().double().cpu(), right.detach().double().cpu()
    finite = right.isfinite()
    assert torch.equal(wide.isfinite(), finite), f"{name}: finite in other places"
    special = wide[~finite], right[~finite]
    assert torch.equal(*(part.nan_to_num(nan=0.5) for part in special)), f"{name}: other infinities"
    if not finite.any():
        return
    largest = max(scale, right[finite].abs().max().item())
    error = (wide[finite] - right[finite]).abs().max().item()
    assert error <= allowed * largest, (
        f"{name}: off by {error:.3g}, allowed {allowed * largest:.3g}"
    )


def wide(*tensors: Tensor) -> list[Tensor]:
    """fp64 leaves with the same values."""
    return [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in tensors]
