"""RMSNorm and LayerNorm, alone and after a residual add, beside fp64."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from kernels.bench.checks.case import DTYPES, CheckCase, Held, drawn, wide
from kernels.bench.tolerance import tolerance
from kernels.dispatch import use_triton
from kernels.norm.reference import layer_norm_reference, rms_norm_reference

SHAPES = ((1, 1), (3, 3), (127, 129))
PRODUCTION = ((130, 128), (257, 2048), (64, 4096), (5, 16384))
"""(rows, width)."""
EPS = 1e-5


def _cases(name: str, layer: bool, device: torch.device, small: bool) -> Iterator[CheckCase]:
    for dtype in DTYPES:
        for rows, width in SHAPES if small else (*SHAPES, *PRODUCTION):
            for added in (False, True):
                run = partial(_hold, layer, added, rows, width, dtype, device)
                yield CheckCase(f"{'add_' if added else ''}{name}", f"{rows} x {width}", dtype, run)


rms_norm_cases = partial(_cases, "rms_norm", False)
"""RMSNorm with a weight."""
layer_norm_cases = partial(_cases, "layer_norm", True)
"""LayerNorm with a weight and a bias."""


def _hold(
    layer: bool, added: bool, rows: int, width: int, dtype: torch.dtype, device: torch.device
) -> Iterator[Held]:
    """Y and dx are rounded once, from fp32 sums over the width; the vectors' sum over the rows.

    dx is a difference that may cancel (at width 1 it is 0), so its error is held against its terms,
    dy * weight / deviation. After an add, the norm is held on the sum as our operator rounded it.
    """
    x = drawn(rows, width, dtype=dtype, device=device)
    vectors = [drawn(width, device=device) for _ in range(1 + layer)]
    dy = torch.randn_like(x)
    if not added:
        norm: Callable[..., Tensor] = layer_norm if layer else rms_norm
        y = norm(x, *vectors)
        found = torch.autograd.grad(y, [x, *vectors], dy)
        yield from _compared(layer, x, vectors, y, found, dy, None)
        return
    residual = drawn(rows, width, dtype=dtype, device=device)
    operator: Callable[..., tuple[Tensor, Tensor]] = add_layer_norm if layer else add_rms_norm
    y, total = operator(x, residual, *vectors)
    yield Held("sum", total, x.detach().double() + residual.detach().double(), tolerance(dtype))
    dtotal = torch.randn_like(x)
    found = torch.autograd.grad([y, total], [x, *vectors], [dy, dtotal])
    leaf = total.detach().requires_grad_()
    yield from _compared(layer, leaf, vectors, y, found, dy, dtotal)


def _compared(
    layer: bool,
    x: Tensor,
    vectors: list[Tensor],
    y: Tensor,
    found: tuple[Tensor, ...],
    dy: Tensor,
    dtotal: Tensor | None,
) -> Iterator[Held]:
    x64, *vectors64 = wide(x, *vectors)
    reference: Callable[..., Tensor] = layer_norm_reference if layer else rms_norm_reference
    y64 = reference(x64, *vectors64, eps=EPS)
    right = list(torch.autograd.grad(y64, [x64, *vectors64], dy.double()))
    rows, width = x.shape
    centered = x64 - x64.mean(-1, keepdim=True) if layer else x64
    inverse = (centered.square().mean(-1, keepdim=True) + EPS).rsqrt()
    terms = (dy.double() * vectors64[0] * inverse).abs().max().item()
    if dtotal is not None:
        right[0] = right[0] + dtotal.double()
        terms += dtotal.abs().max().item()
    # A mean far from 0 costs LayerNorm digits before the sums begin, and where a row's few values
    # are nearly one, y is what is left of terms as large as these.
    lost = (x64.abs() * inverse).max().item() if layer else 0.0
    digits = 2 * torch.finfo(torch.float32).eps * lost
    allowed = tolerance(x.dtype, width) + digits
    size = lost * vectors64[0].abs().max().item()
    yield Held("y", y, y64, allowed, scale=size)
    # The reference's autograd rounds the norm's gradient before it adds that of the sum.
    roundings = 2 if dtotal is not None and not use_triton(x) else 1
    gradient = tolerance(x.dtype, width, roundings) + digits
    yield Held("dx", found[0], right[0], gradient, scale=terms)
    reduced = tolerance(torch.float32, rows * width) + allowed
    largest = dy.abs().max().item()
    for name, one, other in zip(("dweight", "dbias"), found[1:], right[1:], strict=False):
        yield Held(name, one, other, reduced, scale=largest)
