"""Names for what a step does: ranges that the profiler records round our loop's verbs and modules.

Nothing of it stands in the loop or in the model: verbs and kernels are wrapped, and modules hooked,
while a step is profiled.
"""

import functools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.profiler import record_function

import kernels
import trainer.parallel.zero.adamw
import trainer.parallel.zero.replicated
from trainer.run import Run

PREFIX = "lyceum/"
WINDOW = PREFIX + "window"
"""Round the profiled steps, from an idle device to an idle device."""

MODULES = (
    *("layer", "embedding", "self_attention", "mlp", "core_attention", "output_layer"),
    *("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"),
    *("input_layernorm", "pre_mlp_layernorm", "q_layernorm", "k_layernorm", "final_layernorm"),
)
"""The modules with ranges of their own, by the last part of their names."""

_LAYER = re.compile(r"(^|\.)layers\.\d+(\.|$)")
_VERBS = ("count", "forward_backward", "update")

_FUNCTIONS: tuple[tuple[Any, str], ...] = (
    *((kernels, name) for name in ("rope", "attention", "swiglu", "geglu")),
    *((kernels, name) for name in ("rms_norm", "layer_norm")),
    (trainer.parallel.zero.adamw, "adamw_step"),
    (trainer.parallel.zero.replicated, "adamw_step"),
    (trainer.parallel.zero.replicated, "grad_square_sum"),
)


@contextmanager
def ranges(chunks: Sequence[torch.nn.Module], compiled: bool) -> Iterator[None]:
    """Inside: what runs is in a range of the profiler, by verb, by module of `chunks`, by kernel.

    Where layers are `compiled` nothing inside them is touched: they would be compiled anew.
    """
    with ExitStack() as undone:
        for name in _VERBS:
            undone.enter_context(_wrapped(Run, name))
        for owner, name in _FUNCTIONS:
            if not (compiled and owner is kernels):
                undone.enter_context(_wrapped(owner, name))
        for chunk in chunks:
            for path, module in chunk.named_modules():
                if (name := _range(path)) and not (compiled and _LAYER.search(path)):
                    undone.enter_context(_hooked(module, name))
        yield


@contextmanager
def _wrapped(owner: Any, name: str) -> Iterator[None]:
    plain: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(plain)
    def named(*arguments: Any, **options: Any) -> Any:
        with record_function(PREFIX + name):
            return plain(*arguments, **options)

    setattr(owner, name, named)
    try:
        yield
    finally:
        setattr(owner, name, plain)


@contextmanager
def _hooked(module: torch.nn.Module, name: str) -> Iterator[None]:
    # Recomputation calls modules on autograd's thread while others may run on the main one.
    opened: dict[int, list[record_function]] = {}

    def before(*_: Any) -> None:
        entered = record_function(PREFIX + name)
        entered.__enter__()
        opened.setdefault(threading.get_ident(), []).append(entered)

    def after(*_: Any) -> None:
        opened[threading.get_ident()].pop().__exit__(None, None, None)

    handles = [
        module.register_forward_pre_hook(before),
        module.register_forward_hook(after, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _range(path: str) -> str:
    """The range of the module at this path of the model; empty: none."""
    if found := _LAYER.search(path):
        path = path[found.end() :] or "layer"
    last = path.rpartition(".")[2]
    return last if last in MODULES else ""
