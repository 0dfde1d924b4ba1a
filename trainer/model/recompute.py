"""A linear's input made again in the backward pass from what is kept anyway, and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter


class SavedTensorStore(Protocol):
    """Where a tensor that backward needs waits for it."""

    def keep(self, tensor: Tensor) -> Any:
        """Something that holds the tensor until backward."""

    def back(self, kept: Any) -> Tensor:
        """The tensor that `keep` was given."""


class SavedInPlace:
    """Tensors stay where they are."""

    def keep(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def back(self, kept: Tensor) -> Tensor:
        """The tensor itself."""
        return kept


@dataclass(frozen=True)
class Recomputation:
    """How a tensor is made from `source`: bitwise as it was the first time."""

    source: Tensor
    make: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Remade:
    kept: Any
    make: Callable[[Tensor], Tensor]
    shape: torch.Size


@dataclass(frozen=True)
class RecomputedWeight:
    """Not the tensor that forward saw: under ZeRO-3 that one is gone, and comes anew."""

    parameter: Parameter
    place: tuple[torch.Size, tuple[int, ...]]

    @classmethod
    def among(cls, module: Module, saved: Tensor) -> "RecomputedWeight | None":
        """Which of the module's weights `saved` is, or is a view of; asked while it is gathered."""
        for parameter in module.parameters():
            if parameter.data_ptr() == saved.data_ptr() and parameter.numel() == saved.numel():
                return cls(parameter, (saved.shape, saved.stride()))
        return None

    def tensor(self) -> Tensor:
        """The weight as it is now, in the form in which it was saved."""
        return self.parameter.detach().as_strided(*self.place)


@contextmanager
def recomputed_input(
    tensor: Tensor, again: Recomputation | None, module: Module, keeper: SavedTensorStore
) -> Iterator[None]:
    """Inside, where `module` runs on it, autograd keeps no `tensor`: backward makes it again.

    The tensor is known by its place in memory; views of all of it are made again too. Whatever else
    is saved goes to `keeper`, but for the module's own weights. Without `again` nothing changes.
    """
    if again is None or not torch.is_grad_enabled():
        yield
        return
    pack, unpack = _hooks(tensor, again, module, keeper)
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _hooks(
    tensor: Tensor, again: Recomputation, module: Module, keeper: SavedTensorStore
) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    place, count = tensor.data_ptr(), tensor.numel()

    def pack(saved: Tensor) -> Any:
        if saved.data_ptr() == place and saved.numel() == count and saved.is_contiguous():
            return _Remade(keeper.keep(again.source.detach()), again.make, saved.shape)
        return RecomputedWeight.among(module, saved) or keeper.keep(saved)

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, _Remade):
            with torch.no_grad():
                return packed.make(keeper.back(packed.kept)).view(packed.shape)
        if isinstance(packed, RecomputedWeight):
            return packed.tensor()
        return keeper.back(packed)

    return pack, unpack
