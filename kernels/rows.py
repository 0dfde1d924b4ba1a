"""Flatten tensors to rows, the input of every kernel over the last dimension."""

from torch import Tensor


def rows_of(x: Tensor) -> Tensor:
    """[..., width] as [rows, width] with last stride 1, same dtype; copied only if necessary."""
    width = x.shape[-1]
    flat = x.reshape(x.numel() // width, width)
    return flat if flat.stride(-1) == 1 or width == 1 else flat.contiguous()
