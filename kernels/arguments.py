"""Argument checks, one line that names the argument and what is allowed; and tensors as rows.

Every public function checks before it launches or computes anything, whatever implementation runs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16)
"""The dtypes that every family takes."""


def check(condition: bool, message: str, *values: Any) -> None:
    """Raise ValueError(message) unless the condition holds.

    `values` go where the message has {}, a shape as a list: where a check is made for every token
    that is written, a message costs more than what it is about.
    """
    if not condition:
        shown = [list(value) if isinstance(value, tuple) else value for value in values]
        raise ValueError(message.format(*shown) if shown else message)


def check_dtype(name: str, tensor: Tensor, allowed: Sequence[torch.dtype] = FLOATS) -> None:
    """Raise ValueError unless the tensor's dtype is one of those allowed."""
    if tensor.dtype not in allowed:
        names = " or ".join(_name(dtype) for dtype in allowed)
        raise ValueError(f"{name}: dtype {_name(tensor.dtype)} is not supported; use {names}")


def check_device(name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """Raise ValueError unless both tensors are on one device."""
    if tensor.device != like.device:
        raise ValueError(
            f"{name}: is on {tensor.device}, but {like_name} on {like.device}; move one"
        )


def check_shape(name: str, tensor: Tensor, shape: Sequence[int], words: str) -> None:
    """Raise ValueError unless the tensor has the shape, which `words` describe: "[hidden]"."""
    if tensor.shape != tuple(shape):
        raise ValueError(f"{name}: shape {list(tensor.shape)} should be {words} = {list(shape)}")


def check_last_stride(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless the last dimension has stride 1 (or size 1)."""
    if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        raise ValueError(
            f"{name}: stride {tensor.stride(-1)} in the last dimension should be 1; "
            "call contiguous()"
        )


def rows_of(x: Tensor) -> Tensor:
    """[..., width] as [rows, width] with last stride 1, same dtype; copied only if necessary."""
    width = x.shape[-1]
    flat = x.reshape(x.numel() // width, width)
    return flat if flat.stride(-1) == 1 or width == 1 else flat.contiguous()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
