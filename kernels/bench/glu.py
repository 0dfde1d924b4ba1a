"""SwiGLU and GeGLU: inner widths 4096 to 28672, 8192 rows, bf16."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels import geglu, swiglu
from kernels.bench.case import BenchCase, CompileCase, Sizes, TuneCase, on_meta
from kernels.bench.checks.glu import check_cases as check_cases
from kernels.bench.peers import Operator, beside
from kernels.glu import ACTIVATIONS, Activation, _launch_backward, _launch_forward, reference

ROWS = 8192
WIDTHS = (4096, 8192, 14336, 28672)
MODEL_WIDTHS = (14336,)

MOVED = {"forward": 3, "backward": 5}
"""How often one of the halves is read or written."""

_UNITS: dict[str, Callable[[], dict[str, Callable[..., Any]]]] = {
    "swiglu": lambda: beside(
        *(swiglu, reference),
        lambda ops: lambda gate_up: ops.LigerFusedGateUpSiLUMulFunction.apply(gate_up),
    ),
    "geglu": lambda: beside(
        *(geglu, partial(reference, activation="gelu_tanh")),
        lambda ops: lambda gate_up: ops.LigerGELUMulFunction.apply(*gate_up.chunk(2, dim=-1)),
    ),
}


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """Forward reads both halves and writes one; backward reads three and writes two."""
    for width in WIDTHS if sizes == "sweep" else MODEL_WIDTHS:
        half = ROWS * width * 2
        size = f"{ROWS} x {width} bf16"
        for name, unit in _UNITS.items():
            one = Operator(unit, partial(_gate_up, width))
            for way, prepare in (("forward", one.forward), ("backward", one.backward)):
                yield BenchCase(f"{name} {way}", size, width, MOVED[way] * half, 0, prepare)


def compile_cases() -> Iterator[CompileCase]:
    """Every activation, at the inner width of a Llama-3 8B and of a small model."""
    for activation in ACTIVATIONS:
        for width in (256, 14336):
            name = f"{activation} {width} bf16"
            forward = on_meta(_launched_forward, activation, width)
            yield CompileCase(f"forward {name}", forward)
            backward = on_meta(_launched_backward, activation, width)
            yield CompileCase(f"backward {name}", backward)


def tune_cases() -> Iterator[TuneCase]:
    """Columns and warps a program; one shape serves all wide rows."""
    for width in (256, 14336):
        shapes = [
            {"ROWS": rows, "BLOCK": block, "num_warps": warps}
            for rows in (1, 2, 4, 8)
            for block in ((256,) if width == 256 else (512, 1024, 2048, 4096))
            for warps in (4, 8)
            if 4 <= rows * block // (32 * warps) <= 32
        ]
        yield TuneCase("glu.forward", width, shapes, partial(_launched_forward, "silu", width))
        yield TuneCase("glu.backward", width, shapes, partial(_launched_backward, "silu", width))


def _gate_up(width: int, device: torch.device) -> list[Tensor]:
    return [_tensor(2 * width, device)]


def _tensor(width: int, device: torch.device) -> Tensor:
    return torch.randn(ROWS, width, dtype=torch.bfloat16, device=device)


def _launched_forward(
    activation: Activation, width: int, device: torch.device
) -> Callable[[], object]:
    return partial(_launch_forward, _tensor(2 * width, device), activation)


def _launched_backward(
    activation: Activation, width: int, device: torch.device
) -> Callable[[], object]:
    dy, gate_up = _tensor(width, device), _tensor(2 * width, device)
    return partial(_launch_backward, dy, gate_up, activation)
