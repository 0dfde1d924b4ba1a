"""Recompute a linear's input in the backward pass, from a tensor that is saved anyway."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter


class SavedTensorStore(Protocol):
    """Stores tensors saved for backward: on the device, or offloaded to host memory."""

    def save(self, tensor: Tensor) -> Any:
        """Save a tensor, of any shape and dtype; returns a handle for autograd to hold."""

    def load(self, handle: Any) -> Tensor:
        """Load the tensor of a handle: same shape, strides and dtype, on the device."""


class SavedInPlace:
    """A SavedTensorStore that leaves tensors in device memory: the handle is the tensor."""

    def save(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def load(self, handle: Tensor) -> Tensor:
        """The tensor itself."""
        return handle


@dataclass(frozen=True)
class Recomputation:
    """How to recompute a tensor: `make(source)`, bitwise equal to the first result.

    `source` is saved for backward in the tensor's stead; `make` runs without gradients.
    """

    source: Tensor
    make: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Recomputed:
    handle: Any
    make: Callable[[Tensor], Tensor]
    shape: torch.Size


@dataclass(frozen=True)
class RecomputedWeight:
    """A reference to a weight, saved in its stead.

    Under ZeRO-3 the tensor that forward read is freed, and gathered into new memory for backward.
    `view`: the saved tensor's (shape, stride).
    """

    parameter: Parameter
    view: tuple[torch.Size, tuple[int, ...]]

    @classmethod
    def among(cls, module: Module, saved: Tensor) -> "RecomputedWeight | None":
        """The module's weight that `saved` is, or views as a whole; None where it is no weight.

        To be called while the weights are gathered, since they are compared by address.
        """
        for parameter in module.parameters():
            if parameter.data_ptr() == saved.data_ptr() and parameter.numel() == saved.numel():
                return cls(parameter, (saved.shape, saved.stride()))
        return None

    def tensor(self) -> Tensor:
        """The weight's current values, with the shape and strides that were saved."""
        return self.parameter.detach().as_strided(*self.view)


@contextmanager
def recomputed_input(
    tensor: Tensor, recomputation: Recomputation | None, module: Module, store: SavedTensorStore
) -> Iterator[None]:
    """Inside, `module` runs on `tensor`, which autograd does not save: backward recomputes it.

    The tensor, and contiguous views of all of it, are recognised by address and size. Other saved
    tensors go to `store`, except the module's own weights. `recomputation` None: nothing changes.
    """
    if recomputation is None or not torch.is_grad_enabled():
        yield
        return
    pack, unpack = _hooks(tensor, recomputation, module, store)
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _hooks(
    tensor: Tensor, recomputation: Recomputation, module: Module, store: SavedTensorStore
) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    address, count = tensor.data_ptr(), tensor.numel()

    def pack(saved: Tensor) -> Any:
        if saved.data_ptr() == address and saved.numel() == count and saved.is_contiguous():
            return _Recomputed(
                store.save(recomputation.source.detach()), recomputation.make, saved.shape
            )
        return RecomputedWeight.among(module, saved) or store.save(saved)

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, _Recomputed):
            with torch.no_grad():
                return packed.make(store.load(packed.handle)).view(packed.shape)
        if isinstance(packed, RecomputedWeight):
            return packed.tensor()
        return store.load(packed)

    return pack, unpack
