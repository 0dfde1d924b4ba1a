"""megatron-core and DeepSpeed, imported without TorchDynamo and Inductor.

megatron-core decorates some forty functions with torch.compile as it is imported, DeepSpeed's Muon
three, none of which a run of ours calls, and the decorator alone imports both: 1 s. After this
module, and inside `compiling_later`, each is compiled at its first call.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_compile = torch.compile


def compile_at_first_call(
    function: Callable[..., Any] | None = None, **options: Any
) -> Callable[..., Any]:
    """torch.compile as a decorator, with or without options, that waits for the first call."""
    if function is None:
        return functools.partial(compile_at_first_call, **options)
    compiled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal compiled
        if torch.compiler.is_compiling():
            return function(*arguments, **named)
        if compiled is None:
            compiled = _compile(function, **options)
        return compiled(*arguments, **named)

    return call


@contextmanager
def compiling_later() -> Iterator[None]:
    """A block in which torch.compile, as a decorator, waits for the first call."""
    torch.compile = compile_at_first_call  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = _compile


with compiling_later():
    import megatron.core.jit  # noqa: F401  (it and its users hold on to what they found here)
