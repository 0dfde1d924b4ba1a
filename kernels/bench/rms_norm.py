"""RMSNorm and add + RMSNorm: widths 2048 to 16384, 8192 rows, bf16."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels.bench.case import BenchCase, CompileCase, Implementations, Sizes, TuneCase
from kernels.bench.checks import norm as checks
from kernels.bench.peers import backward_of, compiled, liger
from kernels.norm import add_rms_norm, rms_norm
from kernels.norm.backward import launch_backward
from kernels.norm.forward import launch_forward
from kernels.norm.reference import rms_norm_reference

ROWS = 8192
WIDTHS = (2048, 4096, 8192, 16384)
MODEL_WIDTHS = (4096,)
EPS = 1e-5


MOVED = {"forward": 2, "backward": 3, "add forward": 4, "add backward": 4}
"""How often a tensor as large as the input is read or written."""

check_cases = checks.rms_norm_cases
"""What it is held to beside fp64."""


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """Forward reads x and writes y; backward reads x and dy and writes dx; the add moves two more.

    The weight and a row's statistics are under 1% of that and left out.
    """
    for width in WIDTHS if sizes == "sweep" else MODEL_WIDTHS:
        tensor = ROWS * width * 2
        size = f"{ROWS} x {width} bf16"
        for name, prepare in (
            ("forward", _forward),
            ("backward", _backward),
            ("add forward", _add_forward),
            ("add backward", _add_backward),
        ):
            yield BenchCase(name, size, width, MOVED[name] * tensor, 0, partial(prepare, width))


def compile_cases() -> Iterator[CompileCase]:
    """Every kernel at the widths of models from 1B to 400B parameters, and a head's."""
    for width in (128, *WIDTHS, 32768):
        for added in (False, True):
            name = f"{'add ' if added else ''}{width} bf16"
            yield CompileCase(f"forward {name}", partial(_compile_forward, width, added))
            yield CompileCase(f"backward {name}", partial(_compile_backward, width, added))


def tune_cases() -> Iterator[TuneCase]:
    """Warps and rows a program, for each width of the table."""
    for width in (128, 256, 512, 1024, *WIDTHS):
        shapes = [
            {"ROWS": rows, "BLOCK": width, "num_warps": warps}
            for rows in (1, 2, 4, 8, 16)
            for warps in (4, 8, 16, 32)
            if 8 <= rows * width // (32 * warps) <= 64
        ]
        yield TuneCase("norm.forward", width, shapes, partial(_tuned_forward, width))
        persistent = [
            shape | {"RELOAD": reload, "PROGRAMS": count}
            for shape in shapes
            for reload in (0, 1)
            for count in (1, 2, 4)
        ]
        yield TuneCase("norm.backward", width, persistent, partial(_tuned_backward, width))


def _tensors(width: int, device: torch.device, *, learned: bool = False) -> tuple[Tensor, Tensor]:
    """(x or its like, weight)."""
    x = torch.randn(ROWS, width, dtype=torch.bfloat16, device=device, requires_grad=learned)
    return x, torch.ones(width, device=device, requires_grad=learned)


def _forward(width: int, device: torch.device) -> Implementations:
    x, weight = _tensors(width, device)
    return {name: partial(norm, x, weight) for name, norm in _norms().items()}


def _backward(width: int, device: torch.device) -> Implementations:
    x, weight = _tensors(width, device, learned=True)
    dy, _ = _tensors(width, device)
    return {name: backward_of(norm(x, weight), dy, (x, weight)) for name, norm in _norms().items()}


def _add_forward(width: int, device: torch.device) -> Implementations:
    x, weight = _tensors(width, device)
    residual, _ = _tensors(width, device)
    return {name: partial(norm, x, residual, weight) for name, norm in _add_norms().items()}


def _add_backward(width: int, device: torch.device) -> Implementations:
    x, weight = _tensors(width, device, learned=True)
    residual, _ = _tensors(width, device, learned=True)
    gradients = _tensors(width, device)[0], _tensors(width, device)[0]
    return {
        name: backward_of(norm(x, residual, weight), gradients, (x, residual, weight))
        for name, norm in _add_norms().items()
    }


def _norms() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    norms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "lyceum": rms_norm,
        "eager": rms_norm_reference,
        "compile": compiled(rms_norm_reference),
    }
    if (ops := liger()) is not None:
        # In place, as it is shipped, its backward pass overwrites dy: the next call has another.
        norms["liger"] = lambda x, weight: ops.LigerRMSNormFunction.apply(
            x, weight, EPS, 0.0, "llama", False
        )
    return norms


def _add_norms() -> dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]]:
    norms: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
        "lyceum": add_rms_norm,
        "eager": _add_reference,
        "compile": compiled(_add_reference),
    }
    if (ops := liger()) is not None:
        norms["liger"] = lambda x, residual, weight: ops.LigerFusedAddRMSNormFunction.apply(
            x, residual, weight, EPS, 0.0, "llama", False
        )
    return norms


def _compile_forward(width: int, added: bool) -> object:
    x, weight = _tensors(width, torch.device("meta"))
    return launch_forward(x, x if added else None, weight, None, EPS, False, False)


def _compile_backward(width: int, added: bool) -> object:
    x, weight = _tensors(width, torch.device("meta"))
    rstd = weight.new_empty(ROWS)
    return launch_backward(x, x if added else None, x, weight, None, rstd, rstd, False, False)


def _tuned_forward(width: int, device: torch.device) -> Callable[[], object]:
    x, weight = _tensors(width, device)
    return lambda: launch_forward(x, x, weight, None, EPS, False, False)


def _tuned_backward(width: int, device: torch.device) -> Callable[[], object]:
    x, weight = _tensors(width, device)
    rstd = torch.rand(ROWS, device=device)
    return lambda: launch_backward(x, x, x, weight, None, rstd, rstd, False, False)


def _add_reference(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    return rms_norm_reference(total, weight, EPS), total
