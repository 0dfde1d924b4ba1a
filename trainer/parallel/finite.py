"""Whether tensors hold only finite values, in one pass and one wait for the device."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no value of any tensor is NaN or infinite; floating point, on one device, any shape.

    By sums in fp32, at the speed of memory: what is not finite stays so in them. Where one of them
    is not, as finite values may overflow it too, fp64 tells, in which they cannot.
    """
    kept = [tensor.detach() for tensor in tensors]
    return _sums_finite(kept, torch.float32) or _sums_finite(kept, torch.float64)


def _sums_finite(tensors: list[Tensor], dtype: torch.dtype) -> bool:
    sums = [tensor.sum(dtype=dtype) for tensor in tensors]
    return not sums or bool(torch.stack(sums).isfinite().all().item())
