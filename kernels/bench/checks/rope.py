"""Rotary position embedding beside fp64."""

from collections.abc import Iterator
from functools import partial

import torch

from kernels.bench.checks.case import DTYPES, CheckCase, Held, drawn, wide
from kernels.bench.tolerance import tolerance
from kernels.rope import reference, rope
from kernels.rope_angles import rope_frequencies, rope_table

SHAPES = ((1, 1, 1, 1, 2), (3, 2, 6, 2, 6), (17, 3, 4, 1, 10))
PRODUCTION = ((1024, 1, 32, 8, 128), (513, 2, 16, 16, 64))
"""(sequence, batch, heads, kv_heads, head_size)."""


def check_cases(device: torch.device, small: bool) -> Iterator[CheckCase]:
    """Both pairings of channels, out of place."""
    for dtype in DTYPES:
        for shape in SHAPES if small else (*SHAPES, *PRODUCTION):
            for interleaved in (False, True):
                name = "rope interleaved" if interleaved else "rope"
                run = partial(_hold, shape, interleaved, dtype, device)
                yield CheckCase(name, " x ".join(map(str, shape)), dtype, run)


def _hold(
    shape: tuple[int, ...], interleaved: bool, dtype: torch.dtype, device: torch.device
) -> Iterator[Held]:
    """A pair's sum of two products in fp32, then one rounding; backward it is turned back."""
    sequence, batch, heads, kv_heads, size = shape
    query = drawn(sequence, batch, heads, size, dtype=dtype, device=device)
    key = drawn(sequence, batch, kv_heads, size, dtype=dtype, device=device)
    positions = torch.randint(0, 1_000_000, (batch, sequence), device=device)
    cos, sin = rope_table(positions, rope_frequencies(size, 500_000.0).to(device))
    found = rope(query, key, cos, sin, interleaved=interleaved)
    query64, key64 = wide(query, key)
    right = reference(query64, key64, cos, sin, interleaved)
    upstream = [torch.randn_like(x) for x in found]
    gradients = torch.autograd.grad(found, [query, key], upstream)
    exact = torch.autograd.grad(right, [query64, key64], [x.double() for x in upstream])
    names = ("query", "key", "dquery", "dkey")
    for name, one, other in zip(names, (*found, *gradients), (*right, *exact), strict=True):
        yield Held(name, one, other, tolerance(dtype, terms=2))
