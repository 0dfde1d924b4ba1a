"""How a kernel starts: compiled on a GPU, interpreted on the CPU, or only compiled (the gate).

And how a host tensor that it reads gets to the device: without a sync.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

Compile = Callable[[Any, tuple[Any, ...], dict[str, Any]], None]

_compile: ContextVar[Compile | None] = ContextVar("compile", default=None)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run `kernel` on `grid` programs; none where the grid is empty.

    `arguments` are the kernel's run-time arguments, the first of them a tensor, whose device the
    kernel runs on; `constants` are its constexprs, `num_warps` and `num_stages`.
    """
    compile_only = _compile.get()
    if compile_only is not None:
        compile_only(kernel, arguments, constants)
        return
    if math.prod(grid) == 0:
        return
    first: Tensor = arguments[0]
    if not first.is_cuda:
        from kernels.interpreter import interpreted

        interpreted(kernel)[grid](*arguments, **constants)
    elif first.device.index == torch.cuda.current_device():
        kernel[grid](*arguments, **constants)
    else:
        with torch.cuda.device(first.device):
            kernel[grid](*arguments, **constants)


@contextmanager
def compiling(compile_only: Compile) -> Iterator[None]:
    """Inside, launches hand (kernel, arguments, constants) to `compile_only` and run nothing.

    The launchers then work on tensors of device "meta", of any size.
    """
    token = _compile.set(compile_only)
    try:
        yield
    finally:
        _compile.reset(token)


def sent(table: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor, of any shape and dtype, to the device without a sync."""
    # The pinned buffer is new each time: the allocator holds it until the device has read it.
    return table.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else table
