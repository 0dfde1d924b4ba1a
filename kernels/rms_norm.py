"""Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4)."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Divide each row by its root mean square, then scale it by `weight`.

    `x`: [..., hidden], fp32 or bf16; `weight`: [hidden]. The statistics are taken in fp32 and the
    result has x's dtype and shape.
    """
    if x.dtype == torch.float32:
        return torch.nn.functional.rms_norm(x, weight.shape, weight, eps)
    normalised = torch.nn.functional.rms_norm(x.float(), weight.shape, None, eps)
    return normalised.to(x.dtype) * weight
