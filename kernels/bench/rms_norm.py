"""RMSNorm and add + RMSNorm: widths 2048 to 16384, 8192 rows, bf16; what LayerNorm's shares."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels.bench.case import BenchCase, CompileCase, Sizes, TuneCase, on_meta
from kernels.bench.checks.norm import rms_norm_cases
from kernels.bench.peers import Operator, beside
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

check_cases = rms_norm_cases
"""What it is held to beside fp64."""


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """Forward reads x and writes y; backward reads x and dy and writes dx; the add moves two more.

    The weight and a row's statistics are under 1% of that and left out.
    """
    for width in WIDTHS if sizes == "sweep" else MODEL_WIDTHS:
        tensor = ROWS * width * 2
        size = f"{ROWS} x {width} bf16"
        norm = Operator(_norms, partial(tensors, width))
        added = Operator(_add_norms, partial(tensors, width, added=True))
        for name, prepare in (
            ("forward", norm.forward),
            ("backward", norm.backward),
            ("add forward", added.forward),
            ("add backward", added.backward),
        ):
            yield BenchCase(name, size, width, MOVED[name] * tensor, 0, prepare)


def compile_cases(layer: bool = False) -> Iterator[CompileCase]:
    """Every kernel at the widths of models from 1B to 400B parameters, and a head's."""
    for width in (128, *WIDTHS, 32768):
        for added in (False, True):
            name = f"{'add ' if added else ''}{width} bf16"
            forward = on_meta(_launched_forward, width, added, layer)
            yield CompileCase(f"forward {name}", forward)
            backward = on_meta(launched_backward, width, added, layer)
            yield CompileCase(f"backward {name}", backward)


def tune_cases() -> Iterator[TuneCase]:
    """Warps and rows a program, for each width of the table."""
    for width in (128, 256, 512, 1024, *WIDTHS):
        shapes = tile_shapes(width, 64)
        forward = partial(_launched_forward, width, True, False)
        backward = partial(launched_backward, width, True, False)
        yield TuneCase("norm.forward", width, shapes, forward)
        yield TuneCase("norm.backward", width, persistent(shapes), backward)


def tile_shapes(width: int, most: int) -> list[dict[str, int]]:
    """Rows and warps a program, with 8 to `most` elements a thread."""
    return [
        {"ROWS": rows, "BLOCK": width, "num_warps": warps}
        for rows in (1, 2, 4, 8, 16)
        for warps in (4, 8, 16, 32)
        if 8 <= rows * width // (32 * warps) <= most
    ]


def persistent(shapes: list[dict[str, int]]) -> list[dict[str, int]]:
    """Each with what the backward pass, whose programs take many rows, chooses beside."""
    return [
        shape | {"RELOAD": reload, "PROGRAMS": count}
        for shape in shapes
        for reload in (0, 1)
        for count in (1, 2, 4)
    ]


def tensors(
    width: int, device: torch.device, *, added: bool = False, layer: bool = False
) -> list[Tensor]:
    """[x, weight], with a residual behind x where `added`, and a bias at the end where `layer`."""
    wide = [torch.randn(ROWS, width, dtype=torch.bfloat16, device=device) for _ in range(1 + added)]
    bias = [torch.zeros(width, device=device)] if layer else []
    return [*wide, torch.ones(width, device=device), *bias]


def _norms() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    # In place, as it is shipped, Liger's backward pass overwrites dy: the next call has another.
    return beside(
        *(rms_norm, rms_norm_reference),
        lambda ops: (
            lambda x, weight: ops.LigerRMSNormFunction.apply(x, weight, EPS, 0.0, "llama", False)
        ),
    )


def _add_norms() -> dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]]:
    return beside(
        *(add_rms_norm, _add_reference),
        lambda ops: (
            lambda x, residual, weight: ops.LigerFusedAddRMSNormFunction.apply(
                x, residual, weight, EPS, 0.0, "llama", False
            )
        ),
    )


def _launched_forward(
    width: int, added: bool, layer: bool, device: torch.device
) -> Callable[[], object]:
    x, weight, *bias = tensors(width, device, layer=layer)
    residual = x if added else None
    return partial(
        launch_forward, x, residual, weight, bias[0] if layer else None, EPS, False, layer
    )


def launched_backward(
    width: int, added: bool, layer: bool, device: torch.device
) -> Callable[[], object]:
    """The backward pass of either norm, with the gradient of the sum where `added`."""
    x, weight, *bias = tensors(width, device, layer=layer)
    mean, rstd = torch.zeros(ROWS, device=device), torch.rand(ROWS, device=device)
    first = x, x if added else None, x, weight
    return partial(launch_backward, *first, bias[0] if layer else None, mean, rstd, False, layer)


def _add_reference(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    return rms_norm_reference(total, weight, EPS), total
