"""What a family gives to the benchmark, to the compile gate and to the tuner.

Each module kernels/bench/FAMILY.py has three functions: `bench_cases(sizes)`, `compile_cases()` and
`tune_cases()`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

Sizes = Literal["sweep", "model"]
"""`sweep`: a range of widths for the plot; `model`: the shapes of an 8B Llama."""

Implementations = dict[str, Callable[[], object]]
"""By name, what runs one call: "lyceum", "eager", "compile", "liger", "flash-attn", ..."""


@dataclass(frozen=True)
class BenchCase:
    """One operator at one size."""

    operator: str
    """As "forward", "backward", "forward + backward"; a family's plot has a line for each."""
    size: str
    """In words, as "8192 x 4096 bf16"."""
    width: int
    """Where the size stands on the plot's axis: hidden size, vocabulary or sequence length."""
    traffic: int
    """The least bytes that must be read and written."""
    work: int
    """Floating-point operations on the tensor cores; 0 where memory is the only limit."""
    prepare: Callable[[torch.device], Implementations]
    """Makes inputs on the device. A peer that cannot be imported is left out, not faked."""


@dataclass(frozen=True)
class CompileCase:
    """A launcher's call at a production size, which the compile gate turns into machine code."""

    name: str
    """As "forward 4096 bf16"."""
    run: Callable[[], object]
    """Calls a launcher on tensors of device "meta"; nothing is computed."""
    products: bool = False
    """Whether its matrix products must run on tensor cores."""
    spill_bytes: int | None = 0
    """Of registers a thread that it may spill without failing the gate; None: any number."""
    vector_bits: int = 128
    """How wide its widest global loads must be at least; 0: not asked."""


def on_meta(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> Callable[[], object]:
    """What a compile case runs: the launch that `prepare` makes, of tensors without memory.

    `prepare` takes the arguments, and the device at the end.
    """
    return lambda: prepare(*arguments, torch.device("meta"))()


@dataclass(frozen=True)
class TuneCase:
    """A kernel at one width, and the constants that might suit it."""

    kernel: str
    """As in `tiles.tile`: "rms_norm.forward"."""
    width: int
    candidates: Sequence[dict[str, int]]
    prepare: Callable[[torch.device], Callable[[], object]]
    """Makes inputs on the device and returns what runs the launcher once."""
