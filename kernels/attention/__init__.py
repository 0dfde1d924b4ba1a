"""Attention inside documents, windows and context slices of a sequence, in four back ends.

Compute-bound: 4 x head_size FLOPs a visible (query, key) pair forward, 10 backward. Scores never
reach memory, and key blocks that a query block does not attend to are skipped.
"""

import math

from torch import Tensor

from kernels import dispatch
from kernels.arguments import check, check_device, check_dtype, check_last_stride, check_shape
from kernels.attention.backends import BACKENDS, Backend, available, run, why_not
from kernels.attention.choices import Choices
from kernels.attention.operator import triton_attention
from kernels.attention.reference import reference
from kernels.attention.visible import Visible

__all__ = ["CHOICES", "Choices", "Visible", "attention", "attention_with_lse", "available"]

CHOICES = Choices()
"""What `auto` has measured in this process: a cache, for a checkpoint to export and restore."""


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visible,
    *,
    scale: float | None = None,
    backend: str = "auto",
    deterministic: bool = False,
) -> Tensor:
    """softmax(scale Q K^T) V over each query's visible keys; grouped-query heads.

    `query`: [queries, batch, heads, head_size]; `key`, `value`: [keys, batch, kv_heads, head_size];
    fp32 or bf16, any strides, the last one 1. `scale`: positive; none: 1 / sqrt(head_size).
    `backend`: flash, triton, sdpa, reference, or auto: what LYCEUM_KERNELS says, SDPA on the CPU
    and for masks of any form, and on CUDA the fastest as measured once a class of shapes.
    `deterministic`: gradients that repeat bitwise. Returns [queries, batch, heads * head_size]; 0
    where a query sees nothing. Raises ValueError for a wrong shape, dtype, stride, device or scale,
    an unknown back end, or one that cannot run these arguments.
    """
    _check(query, key, value, visible, scale, backend, ("auto", *BACKENDS))
    chosen = _backend(backend, query, key, visible, deterministic)
    output = run(chosen, query, key, value, visible, _scale(query, scale), deterministic)
    return output.reshape(*query.shape[:2], query.shape[2] * query.shape[3])


def attention_with_lse(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visible,
    *,
    scale: float | None = None,
    backend: str = "auto",
    deterministic: bool = False,
) -> tuple[Tensor, Tensor]:
    """(output [queries, batch, heads, head_size], lse fp32 [batch, heads, queries]).

    lse: log(sum(exp(scale Q K^T))) over the keys that a query sees, -inf where it sees none; both
    results are differentiable, so that attention over parts of the keys can be merged.
    `backend`: triton, reference or auto; all else as in `attention`.
    """
    _check(query, key, value, visible, scale, backend, ("auto", "triton", "reference"))
    if backend == "auto":
        triton = dispatch.use_triton(query) and visible.kind != "any"
        backend = "triton" if triton else "reference"
    chosen = _backend(backend, query, key, visible, deterministic)
    if chosen == "triton":
        sides = (visible.low, visible.high, visible.first, visible.last)
        return triton_attention(query, key, value, sides, _scale(query, scale), deterministic)
    return reference(query, key, value, visible, _scale(query, scale))


def _backend(
    backend: str, query: Tensor, key: Tensor, visible: Visible, deterministic: bool
) -> Backend:
    if backend == "auto" and visible.kind == "any":
        return "reference" if dispatch.MODE == "reference" else "sdpa"
    if backend == "auto" and not dispatch.MODE:
        if not query.is_cuda:
            return "sdpa"
        return CHOICES.choose(query, key, visible, deterministic)
    wanted = dispatch.MODE if backend == "auto" else backend
    chosen = next(name for name in BACKENDS if name == wanted)
    reason = why_not(chosen, query, key, visible, deterministic)
    check(not reason, f"backend: {chosen} cannot run this: {reason}; use auto or another back end")
    return chosen


def _scale(query: Tensor, scale: float | None) -> float:
    return query.shape[3] ** -0.5 if scale is None else scale


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visible,
    scale: float | None,
    backend: str,
    backends: tuple[str, ...],
) -> None:
    if backend not in backends:
        raise ValueError(f"backend: {backend!r} is unknown; use {', '.join(backends)}")
    check(
        scale is None or (math.isfinite(scale) and scale > 0.0),
        "scale: {} should be a positive number",
        scale,
    )
    check_dtype("query", query)
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        check_dtype(name, tensor, (query.dtype,))
        check_device(name, tensor, "query", query)
        check(
            tensor.dim() == 4 and tensor.shape[3] > 0,
            "{}: shape {} should be [sequence, batch, heads, head_size]",
            *(name, tensor.shape),
        )
        check_last_stride(name, tensor)
    queries, batch, heads, head_size = query.shape
    keys, _, kv_heads, _ = key.shape
    words = "[keys, query's batch, kv_heads, query's head_size]"
    check_shape("key", key, (keys, batch, kv_heads, head_size), words)
    check_shape("value", value, key.shape, "key's shape")
    check(
        kv_heads > 0 and heads % kv_heads == 0,
        "key: {} heads should divide the query's {}",
        *(kv_heads, heads),
    )
    sizes = (visible.batch, visible.queries, visible.keys)
    check(
        sizes == (batch, queries, keys),
        "visible: is for [batch, queries, keys] = {}, but the tensors have {}",
        *(sizes, (batch, queries, keys)),
    )
    check_device("visible", visible.low, "query", query)
