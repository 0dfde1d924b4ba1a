"""The other implementations that ours is measured against."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from kernels.bench.case import Implementations

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function through torch.compile, for the shapes it is first called with."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def backward_of(
    outputs: Tensor | Sequence[Tensor], gradients: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Callable[[], object]:
    """What runs the backward pass alone, as often as it is called; returns the inputs' gradients.

    The forward pass has made `outputs` out of `inputs`; what it saved is kept between calls.
    """

    def run() -> object:
        return torch.autograd.grad(outputs, inputs, gradients, retain_graph=True)

    return run


def beside(
    ours: Callable[..., Any], eager: Callable[..., Any], ligers: Callable[[Any], Callable[..., Any]]
) -> dict[str, Callable[..., Any]]:
    """Ours, the reference, the same through torch.compile, and Liger-Kernel's where installed.

    `ligers`: makes Liger's out of `liger_kernel.ops`.
    """
    found = {"lyceum": ours, "eager": eager, "compile": compiled(eager)}
    if (ops := liger()) is not None:
        found["liger"] = ligers(ops)
    return found


@dataclass(frozen=True)
class Operator:
    """An operator forward and backward, in all implementations, on inputs of one size."""

    functions: Callable[[], dict[str, Callable[..., Any]]]
    inputs: Callable[[torch.device], Sequence[Tensor]]

    def forward(self, device: torch.device) -> Implementations:
        """The forward pass; nothing is learned."""
        inputs = self.inputs(device)
        return {name: partial(one, *inputs) for name, one in self.functions().items()}

    def backward(self, device: torch.device) -> Implementations:
        """The backward pass alone, of random gradients, the same for all."""
        leaves = [x.requires_grad_() for x in self.inputs(device)]
        gradients: Sequence[Tensor] = ()
        found: Implementations = {}
        for name, one in self.functions().items():
            outputs = one(*leaves)
            outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
            gradients = gradients or [torch.randn_like(x) for x in outputs]
            found[name] = backward_of(outputs, gradients, leaves)
        return found


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
