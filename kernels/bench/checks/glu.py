"""SwiGLU and GeGLU beside fp64."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels import geglu, swiglu
from kernels.bench.checks.case import DTYPES, CheckCase, Held, drawn, wide
from kernels.bench.tolerance import tolerance
from kernels.glu import Activation, reference

SHAPES = ((3, 1), (3, 127), (5, 129))
PRODUCTION = ((64, 8192), (33, 14336))
"""(rows, inner width)."""

UNITS: tuple[tuple[str, Activation, Callable[[Tensor], Tensor]], ...] = (
    ("swiglu", "silu", lambda x: swiglu(x)),
    ("geglu", "gelu_tanh", lambda x: geglu(x)),
    ("geglu exact", "gelu", lambda x: geglu(x, approximate=False)),
)


def check_cases(device: torch.device, small: bool) -> Iterator[CheckCase]:
    """Every activation; odd widths, and those of 1B and 8B models."""
    for dtype in DTYPES:
        for rows, width in SHAPES if small else (*SHAPES, *PRODUCTION):
            for name, activation, unit in UNITS:
                run = partial(_hold, unit, activation, rows, width, dtype, device)
                yield CheckCase(name, f"{rows} x {width}", dtype, run)


def _hold(
    unit: Callable[[Tensor], Tensor],
    activation: Activation,
    rows: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[Held]:
    """Each element is a product of a few fp32 operations, rounded once: no sums."""
    gate_up = drawn(rows, 2 * width, dtype=dtype, device=device)
    dy = torch.randn(rows, width, device=device).to(dtype)
    y = unit(gate_up)
    (found,) = torch.autograd.grad(y, [gate_up], dy)
    (gate_up64,) = wide(gate_up)
    y64 = reference(gate_up64, activation)
    (right,) = torch.autograd.grad(y64, [gate_up64], dy.double())
    # Activation and slope take about ten fp32 operations, each off by half a unit at most.
    allowed = tolerance(dtype) + 10 * torch.finfo(torch.float32).eps
    # An activation below 0 is a gate times the tail of an exponential, whose exponent is rounded;
    # a slope is a difference of terms of order one. Both may be as small as one likes.
    gate, up = gate_up64.detach().chunk(2, dim=-1)
    yield Held("y", y, y64, allowed, scale=(gate * up).abs().max().item())
    terms = (dy.double() * up).abs().max().item()
    yield Held("dgate_up", found, right, allowed, scale=terms)
