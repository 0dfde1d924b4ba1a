"""The other implementations that ours is measured against."""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function through torch.compile, for the shapes it is first called with."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def backward_of(
    outputs: Tensor | Sequence[Tensor],
    gradients: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
) -> Callable[[], object]:
    """What runs the backward pass alone, as often as it is called; returns the inputs' gradients.

    The forward pass has made `outputs` out of `inputs`; what it saved is kept between calls.
    """

    def run() -> object:
        return torch.autograd.grad(outputs, inputs, gradients, retain_graph=True)

    return run


def liger() -> ModuleType | None:
    """`liger_kernel.ops`, if installed: its autograd functions, such as LigerRMSNormFunction."""
    return _installed("liger_kernel.ops")


def flash_attention() -> ModuleType | None:
    """`flash_attn`, with flash_attn_func and flash_attn_varlen_func, if installed."""
    return _installed("flash_attn")


def _installed(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
