"""`offload: activations`: tensors saved for backward are moved to host memory until it runs.

Copies run on a side stream: to the host while the next layers compute, and back one layer ahead of
need. Device memory is freed behind its copy in the compute stream's order, so the host never
blocks, and only a few layers' activations are on the device at a time. The CPU runs the same code,
where it saves no memory; it has not been run on a GPU yet.
"""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from trainer.model.recompute import RecomputedWeight
from trainer.parallel.device import runs_ahead

SMALLEST = 2**16
"""Bytes from which on a tensor is moved; below, a copy costs more than the memory is worth."""

IN_FLIGHT = 2
"""Layers whose copy to the host may be in progress, so that their device memory is not free yet."""


class Offload:
    """Offloads the saved activations of one model chunk's layers."""

    def __init__(self) -> None:
        self._side: Any = None
        self._leaving: deque[_Layer] = deque()
        self._newest: _Layer | None = None

    @contextmanager
    def layer(self, module: Module, shared: object) -> "Iterator[_Layer]":
        """Wraps one layer's forward pass: tensors that autograd saves inside go to the host.

        `module`: the layer, whose own weights stay on the device; `shared`: an object (searched for
        tensors four levels deep) whose tensors every layer reads, so that they stay as well.
        """
        device = next(module.parameters()).device
        streams = torch.get_device_module(device)
        if self._side is None:
            self._side = streams.Stream()
        while len(self._leaving) >= IN_FLIGHT:
            self._leaving.popleft().release()
        number = int(getattr(module, "layer_number", 0))
        before = self._newest
        if before is not None and before.number != number - 1:
            before = None  # of another micro-batch
        layer = _Layer(module, number, device, self._side, _addresses(shared), before)
        with torch.autograd.graph.saved_tensors_hooks(layer.save, layer.load):
            yield layer
        layer.leave()
        self._newest = layer
        self._leaving.append(layer)


class _Waiting:
    """One saved storage: on the device (`there`), on the host, or on both."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.there: torch.UntypedStorage | None = storage
        self.host: Tensor | None = None


class _SavedTensor(NamedTuple):
    """A tensor as a view of its storage."""

    waiting: _Waiting
    dtype: torch.dtype
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]


class _Layer:
    """The storages that one layer saved for one micro-batch; autograd's graph owns them."""

    def __init__(
        self,
        module: Module,
        number: int,
        device: torch.device,
        side: Any,
        shared: frozenset[int],
        before: "_Layer | None",
    ) -> None:
        self.number = number
        self._module: Module | None = module
        self._device, self._side, self._shared = device, side, shared
        # Weak: strong references would chain the layers and keep every micro-batch alive.
        self._before = weakref.ref(before) if before is not None else None
        self._own: list[weakref.ref[_Waiting]] = []
        self._by_address: dict[int, _Waiting] = {}
        self._copied: Any = None
        self._arrived: Any = None

    def save(self, tensor: Tensor) -> Any:
        """The pack hook: a handle for autograd, or the tensor itself where it is not offloaded."""
        assert self._module is not None, "tensors are saved while the layer runs"
        weight = RecomputedWeight.among(self._module, tensor)
        if weight is not None:
            return weight
        storage = tensor.untyped_storage()
        address, large = storage.data_ptr(), storage.nbytes() >= SMALLEST
        if not large or tensor.device != self._device or address in self._shared:
            return tensor
        waiting = self._by_address.get(address)
        if waiting is None:
            waiting = self._by_address[address] = _Waiting(storage)
            self._own.append(weakref.ref(waiting))
        offset = int(tensor.storage_offset())
        saved = _SavedTensor(waiting, tensor.dtype, offset, tensor.shape, tensor.stride())
        return _Handle(self, saved)

    def load(self, handle: Any) -> Tensor:
        """The unpack hook: the tensor that was saved, on the device; prefetches the layer below."""
        if isinstance(handle, RecomputedWeight):
            return handle.tensor()
        if not isinstance(handle, _Handle):
            tensor: Tensor = handle
            return tensor
        layer, saved = handle.layer, handle.saved
        layer.fetch()
        before = layer._before() if layer._before is not None else None
        if before is not None:
            before.fetch()
        layer._current().wait_event(layer._arrived or layer._copied)
        assert saved.waiting.there is not None
        view = torch.empty(0, dtype=saved.dtype, device=self._device)
        return view.set_(saved.waiting.there, saved.offset, saved.shape, saved.stride)

    def leave(self) -> None:
        """Start the copies to the host, after the work that is queued so far."""
        self._module = None
        self._side.wait_stream(self._current())
        with torch.get_device_module(self._device).stream(self._side):
            for waiting in self._by_address.values():
                assert waiting.there is not None
                source = _bytes(waiting.there, self._device)
                waiting.host = torch.empty(
                    len(source), dtype=torch.uint8, pin_memory=runs_ahead(self._device)
                )
                waiting.host.copy_(source, non_blocking=True)
        self._copied = self._side.record_event()
        self._by_address.clear()

    def release(self) -> None:
        """Free the device memory; work that is queued from now on waits for the copies."""
        self._current().wait_event(self._copied)
        for waiting in self._alive():
            if self._arrived is None:
                waiting.there = None

    def fetch(self) -> None:
        """Start the copies back to the device, unless they are done or in progress."""
        missing = [waiting for waiting in self._alive() if waiting.there is None]
        if not missing:
            return
        # Kernels that are queued already may still use the memory that is allocated here.
        targets = [torch.empty_like(_host(w), device=self._device) for w in missing]
        self._side.wait_stream(self._current())
        with torch.get_device_module(self._device).stream(self._side):
            for waiting, target in zip(missing, targets, strict=True):
                target.copy_(_host(waiting), non_blocking=True)
                waiting.there = target.untyped_storage()
        self._arrived = self._side.record_event()

    def _alive(self) -> Iterator[_Waiting]:
        found = (reference() for reference in self._own)
        return (waiting for waiting in found if waiting is not None)

    def _current(self) -> Any:
        return torch.get_device_module(self._device).current_stream()


class _Handle(NamedTuple):
    layer: _Layer
    saved: _SavedTensor


def _host(waiting: _Waiting) -> Tensor:
    assert waiting.host is not None, "a layer is fetched after it has left"
    return waiting.host


def _bytes(storage: torch.UntypedStorage, device: torch.device) -> Tensor:
    whole = torch.empty(0, dtype=torch.uint8, device=device)
    return whole.set_(storage, 0, (storage.nbytes(),), (1,))


def _addresses(shared: object) -> frozenset[int]:
    """The storage addresses of an object's tensors, and of those in its attributes and items."""
    return frozenset(t.untyped_storage().data_ptr() for t in _tensors(shared, 4))


def _tensors(value: object, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    parts: Iterable[object] = ()
    if isinstance(value, tuple | list):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    elif hasattr(value, "__dict__"):
        parts = vars(value).values()
    if depth > 0:
        for part in parts:
            yield from _tensors(part, depth - 1)
