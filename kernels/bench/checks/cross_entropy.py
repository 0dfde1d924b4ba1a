"""Cross entropy, and the output projection fused with it, beside fp64."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.bench.checks.case import DTYPES, CheckCase, Held, drawn, wide
from kernels.bench.tolerance import tolerance
from kernels.cross_entropy import IGNORE, cross_entropy
from kernels.cross_entropy.reference import reference
from kernels.linear_cross_entropy import linear_cross_entropy

SHAPES = ((3, 1), (3, 127), (5, 300))
PRODUCTION = ((33, 50_257), (64, 128_256))
"""(tokens, vocabulary)."""
LINEAR_SHAPES = ((5, 24, 3), (7, 24, 129))
LINEAR_PRODUCTION = ((257, 2048, 50_257), (128, 4096, 128_256))
"""(tokens, hidden, vocabulary)."""
TERMS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 1e-2}
WAYS: dict[str, dict[str, Any]] = {
    "apart": {},
    "in place": {"inplace": True},
    "in place, summed": {"inplace": True, "reduction": "sum"},
}


def check_cases(device: torch.device, small: bool) -> Iterator[CheckCase]:
    """Whole rows and odd ones, the gradient apart and written over the logits."""
    for dtype in DTYPES:
        for tokens, vocab in SHAPES if small else (*SHAPES, *PRODUCTION):
            for name, way in WAYS.items():
                run = partial(_hold, tokens, vocab, way, dtype, device)
                yield CheckCase(f"cross_entropy {name}", f"{tokens} x {vocab}", dtype, run)


def linear_check_cases(device: torch.device, small: bool) -> Iterator[CheckCase]:
    """A loss a token, and their sum, whose gradients are made in the forward pass; two chunks."""
    for dtype in DTYPES:
        for shape in LINEAR_SHAPES if small else (*LINEAR_SHAPES, *LINEAR_PRODUCTION):
            for reduction in ("none", "sum"):
                run = partial(_hold_linear, shape, reduction, dtype, device)
                size = " x ".join(map(str, shape))
                yield CheckCase(f"linear_cross_entropy {reduction}", size, dtype, run)


def _labels(tokens: int, vocab: int, device: torch.device) -> Tensor:
    labels = torch.randint(vocab, (tokens,), device=device)
    labels[0] = IGNORE
    return labels


def _hold(
    tokens: int, vocab: int, way: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> Iterator[Held]:
    """Losses are differences of logits, fp32 sums over the vocabulary in them.

    The gradient is at most upstream * (1 + 2 * z_loss * |lse|), from sums as long, rounded once.
    """
    logits = drawn(tokens, vocab, dtype=dtype, device=device, factor=3.0)
    labels = _labels(tokens, vocab, device)
    summed = way.get("reduction") == "sum"
    upstream = torch.randn(() if summed else tokens, device=device)
    losses = cross_entropy(logits * 1, labels, **way, **TERMS)
    (found,) = torch.autograd.grad(losses, [logits], upstream)
    (logits64,) = wide(logits)
    losses64 = reference(logits64, labels, **TERMS)
    losses64 = losses64.sum() if summed else losses64
    (gradient,) = torch.autograd.grad(losses64, [logits64], upstream.double())
    largest = logits64.detach().abs().max().item()
    scale = upstream.abs().max().item() * (1 + 2 * TERMS["z_loss"] * largest)
    size = largest * (tokens if summed else 1)
    yield Held("losses", losses, losses64, tolerance(torch.float32, vocab), scale=size)
    # A gradient made before its upstream is known is rounded twice.
    allowed = tolerance(dtype, vocab, roundings=2 if summed else 1)
    yield Held("dlogits", found, gradient, allowed, scale=scale)


def _hold_linear(
    shape: tuple[int, int, int], reduction: str, dtype: torch.dtype, device: torch.device
) -> Iterator[Held]:
    """Logits are rounded before the loss, which the oracle does too.

    One may fall to the other side of a rounding, a unit in the last place. The logits' gradient is
    rounded, then sums are in fp32.
    """
    tokens, width, vocab = shape
    hidden = drawn(tokens, width, dtype=dtype, device=device)
    weight = drawn(vocab, width, dtype=dtype, device=device, factor=2.0 / width**0.5)
    labels = _labels(tokens, vocab, device)
    upstream = torch.randn(() if reduction == "sum" else tokens, device=device)
    options: dict[str, Any] = {"reduction": reduction, "chunk": tokens // 2 + 1}
    losses = linear_cross_entropy(hidden, weight, labels, **options, **TERMS)
    found = torch.autograd.grad(losses, [hidden, weight], upstream)
    hidden64, weight64 = wide(hidden, weight)
    logits64 = hidden64 @ weight64.t()
    logits64 = logits64 + (logits64.detach().to(dtype).double() - logits64.detach())
    losses64 = reference(logits64, labels, **TERMS)
    losses64 = losses64.sum() if reduction == "sum" else losses64
    right = torch.autograd.grad(losses64, [hidden64, weight64], upstream.double())
    largest = logits64.detach().abs().max().item()
    size = largest * (tokens if reduction == "sum" else 1)
    unit = tolerance(dtype, width + vocab, roundings=2)
    yield Held("losses", losses, losses64, unit, scale=size)
    slope = upstream.abs().max().item() * (1 + 2 * TERMS["z_loss"] * largest)
    allowed = tolerance(dtype, width + vocab + tokens, roundings=4)
    for name, one, other, factor in zip(
        ("dhidden", "dweight"), found, right, (weight64, hidden64), strict=True
    ):
        # A row of the logits' gradient sums to 2 at most; each is multiplied with this.
        yield Held(name, one, other, allowed, scale=2 * slope * factor.abs().max().item())
