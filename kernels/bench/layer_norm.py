"""LayerNorm: widths 2048 to 16384, 8192 rows, bf16."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels.bench.case import BenchCase, CompileCase, Implementations, Sizes, TuneCase
from kernels.bench.checks import norm as checks
from kernels.bench.peers import backward_of, compiled, liger
from kernels.norm import layer_norm
from kernels.norm.backward import launch_backward
from kernels.norm.forward import launch_forward
from kernels.norm.reference import layer_norm_reference

ROWS = 8192
WIDTHS = (2048, 4096, 8192, 16384)
MODEL_WIDTHS = (4096,)
EPS = 1e-5

check_cases = checks.layer_norm_cases
"""What it is held to beside fp64."""


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """Forward reads x and writes y; backward reads x and dy and writes dx."""
    for width in WIDTHS if sizes == "sweep" else MODEL_WIDTHS:
        tensor = ROWS * width * 2
        size = f"{ROWS} x {width} bf16"
        yield BenchCase("forward", size, width, 2 * tensor, 0, partial(_forward, width))
        yield BenchCase("backward", size, width, 3 * tensor, 0, partial(_backward, width))


def compile_cases() -> Iterator[CompileCase]:
    """Every kernel at the widths of models from 1B to 400B parameters, and a head's."""
    for width in (128, *WIDTHS, 32768):
        for added in (False, True):
            name = f"{'add ' if added else ''}{width} bf16"
            yield CompileCase(f"forward {name}", partial(_compile_forward, width, added))
            yield CompileCase(f"backward {name}", partial(_compile_backward, width, added))


def tune_cases() -> Iterator[TuneCase]:
    """The backward pass with a bias has a table of its own; forward shares RMSNorm's."""
    for width in (128, 256, 512, 1024, 2048, 4096, 8192):
        shapes = [
            {"ROWS": rows, "BLOCK": width, "num_warps": warps, "RELOAD": reload, "PROGRAMS": count}
            for rows in (1, 2, 4, 8, 16)
            for warps in (4, 8, 16, 32)
            for reload in (0, 1)
            for count in (1, 2, 4)
            if 8 <= rows * width // (32 * warps) <= 32
        ]
        yield TuneCase("norm.backward_bias", width, shapes, partial(_tuned_backward, width))


def _tensors(width: int, device: torch.device, *, learned: bool = False) -> list[Tensor]:
    """[x, weight, bias]."""
    x = torch.randn(ROWS, width, dtype=torch.bfloat16, device=device, requires_grad=learned)
    ones, zeros = (make(width, device=device) for make in (torch.ones, torch.zeros))
    return [x, ones.requires_grad_(learned), zeros.requires_grad_(learned)]


def _norms() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    norms: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "lyceum": layer_norm,
        "eager": layer_norm_reference,
        "compile": compiled(layer_norm_reference),
    }
    if (ops := liger()) is not None:
        norms["liger"] = lambda x, weight, bias: ops.LigerLayerNormFunction.apply(
            x, weight, bias, EPS
        )
    return norms


def _forward(width: int, device: torch.device) -> Implementations:
    tensors = _tensors(width, device)
    return {name: partial(norm, *tensors) for name, norm in _norms().items()}


def _backward(width: int, device: torch.device) -> Implementations:
    tensors = _tensors(width, device, learned=True)
    dy = _tensors(width, device)[0]
    return {name: backward_of(norm(*tensors), dy, tensors) for name, norm in _norms().items()}


def _compile_forward(width: int, added: bool) -> object:
    x, weight, bias = _tensors(width, torch.device("meta"))
    return launch_forward(x, x if added else None, weight, bias, EPS, False, True)


def _compile_backward(width: int, added: bool) -> object:
    x, weight, bias = _tensors(width, torch.device("meta"))
    rstd = weight.new_empty(ROWS)
    return launch_backward(x, x if added else None, x, weight, bias, rstd, rstd, False, True)


def _tuned_backward(width: int, device: torch.device) -> Callable[[], object]:
    x, weight, bias = _tensors(width, device)
    mean, rstd = torch.zeros(ROWS, device=device), torch.rand(ROWS, device=device)
    return lambda: launch_backward(x, None, x, weight, bias, mean, rstd, False, True)
