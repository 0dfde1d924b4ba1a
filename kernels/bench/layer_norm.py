"""LayerNorm: widths 2048 to 16384, 8192 rows, bf16, as RMSNorm."""

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from kernels.bench import rms_norm
from kernels.bench.case import BenchCase, Sizes, TuneCase
from kernels.bench.checks.norm import layer_norm_cases
from kernels.bench.peers import Operator, beside
from kernels.bench.rms_norm import (
    EPS,
    MODEL_WIDTHS,
    MOVED,
    WIDTHS,
    launched_backward,
    persistent,
    tensors,
    tile_shapes,
)
from kernels.norm import layer_norm
from kernels.norm.reference import layer_norm_reference

check_cases = layer_norm_cases
"""What it is held to beside fp64."""

compile_cases = partial(rms_norm.compile_cases, layer=True)
"""Every kernel at RMSNorm's widths."""


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """Forward reads x and writes y; backward reads x and dy and writes dx."""
    for width in WIDTHS if sizes == "sweep" else MODEL_WIDTHS:
        tensor = rms_norm.ROWS * width * 2
        size = f"{rms_norm.ROWS} x {width} bf16"
        norm = Operator(_norms, partial(tensors, width, layer=True))
        for name, prepare in (("forward", norm.forward), ("backward", norm.backward)):
            yield BenchCase(name, size, width, MOVED[name] * tensor, 0, prepare)


def tune_cases() -> Iterator[TuneCase]:
    """The backward pass with a bias has a table of its own; forward shares RMSNorm's."""
    for width in (128, 256, 512, 1024, 2048, 4096, 8192):
        shapes = persistent(tile_shapes(width, 32))
        backward = partial(launched_backward, width, False, True)
        yield TuneCase("norm.backward_bias", width, shapes, backward)


def _norms() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    return beside(
        *(layer_norm, layer_norm_reference),
        lambda ops: lambda x, weight, bias: ops.LigerLayerNormFunction.apply(x, weight, bias, EPS),
    )
