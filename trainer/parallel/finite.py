"""Whether tensors hold only finite values, in one pass and one wait for the device."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no value of any tensor is NaN or infinite; floating point, on one device, any shape.

    By sums in fp64: those of finite fp32 values cannot overflow, and what is not finite stays so.
    """
    sums = [tensor.detach().sum(dtype=torch.float64) for tensor in tensors]
    return not sums or bool(torch.stack(sums).isfinite().all().item())
