"""Compiling our kernels for a chip that this machine may not have."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from kernels.launch import compiling
from kernels.tiles import compiled_for

CHIPS = ("sm_80", "sm_90", "sm_100")


class _Stub:
    """What Triton's just-in-time compiler asks of a driver before it launches anything."""

    def __init__(self, chip: str) -> None:
        self.target = GPUTarget("cuda", int(chip.removeprefix("sm_")), 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cuda

    def map_python_to_cpp_type(self, name: str) -> str:
        return name


def compile_launches(run: Callable[[], object], chip: str) -> list[tuple[str, Any]]:
    """(name, compiled kernel) of each launch that `run` makes on "meta" tensors, in order."""
    found: list[tuple[str, Any]] = []

    def build(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
        with _own_cache(kernel):
            built = kernel.warmup(*arguments, grid=(1,), **constants)
        found.append((kernel.fn.__name__, built))

    with _stub_driver(chip), compiling(build), compiled_for(chip):
        run()
    return found


@contextmanager
def _stub_driver(chip: str) -> Iterator[None]:
    real = driver._active
    driver.set_active(_Stub(chip))
    try:
        yield
    finally:
        driver.set_active(real)


@contextmanager
def _own_cache(kernel: Any) -> Iterator[None]:
    """A kernel remembers its target and its binaries by device number: keep the GPU's apart."""
    real = dict(kernel.device_caches)
    kernel.device_caches.clear()
    try:
        yield
    finally:
        kernel.device_caches.clear()
        kernel.device_caches.update(real)
