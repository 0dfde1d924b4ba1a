"""Attention beside fp64, in every back end that can run a call."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels import dispatch
from kernels.attention import Visible, attention, attention_with_lse, available
from kernels.attention.reference import reference
from kernels.bench.checks.case import DTYPES, CheckCase, Held, drawn, wide
from kernels.bench.tolerance import tolerance

SMALL = ((1, 37, 2, 1, 16),)
PRODUCTION = (*SMALL, (2, 129, 4, 2, 64), (1, 1000, 8, 2, 128), (1, 2048, 4, 4, 64))
"""(batch, sequence, heads, kv_heads, head_size)."""

Patterns = dict[str, Callable[[int, int, torch.device], Visible]]


def _positions(batch: int, sequence: int, device: torch.device) -> Tensor:
    """Documents of a third of the sequence each, the last one what is left."""
    return (torch.arange(sequence, device=device) % (sequence // 3 + 1)).repeat(batch, 1)


PATTERNS: Patterns = {
    "causal": lambda batch, sequence, device: Visible.causal(batch, sequence, device=device),
    "documents": lambda *shape: Visible.documents(_positions(*shape)),
    "window": lambda *shape: Visible.documents(_positions(*shape), window=shape[1] // 5 + 1),
}


def check_cases(device: torch.device, small: bool) -> Iterator[CheckCase]:
    """Causal, packed documents, windows in them; gradients that repeat bitwise, and any order."""
    for dtype in DTYPES:
        for batch, sequence, heads, kv_heads, head_size in SMALL if small else PRODUCTION:
            shape = (batch, sequence, heads, kv_heads, head_size)
            size = f"{batch} x {sequence}, {heads}/{kv_heads} heads of {head_size}"
            for pattern, make in PATTERNS.items():
                visible = partial(make, batch, sequence, device)
                for backend, deterministic in _ways(shape, visible(), dtype, device):
                    repeated = ", deterministic" if deterministic else ""
                    run = partial(_hold, shape, visible, backend, deterministic, dtype, device)
                    yield CheckCase(f"attention {backend}, {pattern}{repeated}", size, dtype, run)


def _ways(
    shape: tuple[int, ...], visible: Visible, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, bool]]:
    """(back end, deterministic): Triton's only where kernels are to run, else the reference."""
    batch, sequence, heads, kv_heads, head_size = shape
    query = torch.empty((sequence, batch, heads, head_size), dtype=dtype, device=device)
    key = query[:, :, :kv_heads]
    ours = "triton" if dispatch.use_triton(query) else "reference"
    for deterministic in (True, False):
        for backend in available(query, key, visible, deterministic):
            if backend in (ours, "sdpa", "flash"):
                yield backend, deterministic


def _hold(
    shape: tuple[int, int, int, int, int],
    visible_of: Callable[[], Visible],
    backend: str,
    deterministic: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[Held]:
    """The output is rounded once and so are, in bf16, the weights; gradients sum products of two.

    Scores are sums over the channels, all else sums over keys or queries.
    """
    batch, sequence, heads, kv_heads, size = shape
    query = drawn(sequence, batch, heads, size, dtype=dtype, device=device)
    key, value = (
        drawn(sequence, batch, kv_heads, size, dtype=dtype, device=device) for _ in range(2)
    )
    tensors, visible = [query, key, value], visible_of()
    query64, key64, value64 = tensors64 = wide(*tensors)
    output64, lse64 = reference(query64, key64, value64, visible, size**-0.5)
    gradient, lse_gradient = torch.randn_like(query), torch.randn_like(lse64.float())
    terms = size + sequence
    if backend in ("triton", "reference"):
        output, lse = attention_with_lse(
            query, key, value, visible, backend=backend, deterministic=deterministic
        )
        found = torch.autograd.grad((output, lse), tensors, (gradient, lse_gradient))
        yield Held("lse", lse, lse64, tolerance(torch.float32, terms), scale=1.0)
    else:
        lse_gradient.zero_()
        flat = attention(query, key, value, visible, backend=backend, deterministic=deterministic)
        output = flat.unflatten(-1, (heads, size))
        found = torch.autograd.grad(output, tensors, gradient)
    right = torch.autograd.grad(
        (output64, lse64), tensors64, (gradient.double(), lse_gradient.double())
    )
    scales = sizes_of_terms(tensors64, visible, gradient, lse_gradient)
    yield Held("output", output, output64, tolerance(dtype, terms, 2))
    names = ("dquery", "dkey", "dvalue")
    for name, one, other, scale in zip(names, found, right, scales, strict=True):
        yield Held(name, one, other, tolerance(dtype, terms, 3), scale)


@torch.no_grad()
def sizes_of_terms(
    tensors: list[Tensor],
    visible: Visible,
    gradient: Tensor,
    lse_gradient: Tensor,
    scale: float | None = None,
) -> list[float]:
    """The largest root of a sum of squared terms in each gradient: what rounding errors grow with.

    A score's gradient, p (dO V^T - delta), is a difference: it can be far smaller than its terms,
    as for a query that sees one key alone, and so can the sums that it enters.
    """
    query, key, value = tensors
    group = query.shape[2] // key.shape[2]
    scale = query.shape[3] ** -0.5 if scale is None else scale
    output, lse = reference(query, key, value, visible, scale)
    wide_key, wide_value = (x.repeat_interleave(group, dim=2) for x in (key, value))
    scores = torch.einsum("qbhd,kbhd->bhqk", query, wide_key) * scale
    seen = visible.dense()[:, None]
    weights = torch.where(seen, (scores - lse[..., None]).exp(), 0.0)
    slopes = torch.einsum("qbhd,kbhd->bhqk", gradient.double(), wide_value).abs()
    delta = (gradient.double() * output).sum(-1).permute(1, 2, 0) - lse_gradient.double()
    squares = (scale * weights * (slopes + delta.abs()[..., None])).square()
    sums = (
        torch.einsum("bhqk,kbhd->qbhd", squares, wide_key.square()),
        torch.einsum("bhqk,qbhd->kbhd", squares, query.square()),
        torch.einsum("bhqk,qbhd->kbhd", weights.square(), gradient.double().square()),
    )
    return [total.sqrt().max().item() if total.numel() else 0.0 for total in sums]
