"""The backward kernels: FlashAttention-2 (Dao 2023, algorithm 2), from the saved log-sum-exp.

Compute-bound: five products a visible (query, key) pair. Keys' and queries' gradients sum over
different programs, so either a second kernel computes two of the products again (seven in all, each
sum in a fixed order: bitwise repeatable), or one kernel adds its share of the queries' gradient to
memory atomically (five in all, in any order). The table of tiles says which one is the default.
"""

import torch
from torch import Tensor

from kernels.attention.forward import LOG2_E, kernel_name, width
from kernels.attention.key_gradient import _key_gradient
from kernels.attention.query_gradient import _delta, _query_gradient
from kernels.language import triton
from kernels.launch import launch
from kernels.tiles import tile


def launch_backward(
    gradient: Tensor,
    lse_gradient: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    sides: tuple[Tensor, Tensor, Tensor, Tensor],
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, in their shapes and dtypes, contiguous.

    `query`, `output` and `gradient` (the output's): fp32 or bf16 [queries, batch, heads,
    head_size]; `key`, `value`: [keys, batch, kv_heads, head_size]; any strides, the last one 1.
    `lse` and `lse_gradient` (none: nothing depends on it): fp32 [batch, heads, queries].
    `sides`: low and high int32 [batch, queries], first and last int32 [batch, keys] (Visible).
    """
    atomic = tile(kernel_name("fused_gradient", query), query.shape[3], query.device)["ATOMIC"]
    whole = (gradient, lse_gradient, query, key, value, output, lse, sides, scale)
    if atomic and not deterministic:
        return launch_fused(*whole)
    return launch_split(*whole)


def launch_split(
    gradient: Tensor,
    lse_gradient: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    sides: tuple[Tensor, Tensor, Tensor, Tensor],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `launch_backward`, by two kernels: bitwise repeatable."""
    queries, batch, heads, head_size = query.shape
    keys, _, kv_heads, _ = key.shape
    low, high, _, _ = sides
    result = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    delta = torch.empty(lse.shape, dtype=torch.float32, device=query.device)
    chosen = tile(kernel_name("query_gradient", query), head_size, query.device)
    launch(
        _query_gradient,
        (batch * heads, triton.cdiv(queries, chosen["QUERIES"])),
        query,
        key,
        value,
        output,
        gradient,
        low,
        high,
        lse,
        lse_gradient if lse_gradient is not None else lse,
        delta,
        result,
        queries,
        keys,
        heads,
        heads // kv_heads,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        *output.stride()[:3],
        *gradient.stride()[:3],
        low.stride(0),
        *result.stride()[:3],
        scale * LOG2_E,
        scale,
        HAS_LSE_GRADIENT=lse_gradient is not None,
        HEAD=head_size,
        WIDTH=width(head_size),
        **chosen,
    )
    chosen = tile(kernel_name("key_gradient", query), head_size, query.device)
    tensors = (gradient, query, key, value, lse, delta)
    return result, *_launch_keys(*tensors, None, sides, scale, chosen)


def launch_fused(
    gradient: Tensor,
    lse_gradient: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    sides: tuple[Tensor, Tensor, Tensor, Tensor],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `launch_backward`, by one kernel of five products, whose atomic sums have no order."""
    queries, batch, heads, head_size = query.shape
    delta = torch.empty(lse.shape, dtype=torch.float32, device=query.device)
    chosen = tile("attention.delta", head_size, query.device)
    launch(
        _delta,
        (batch * heads, triton.cdiv(queries, chosen["QUERIES"])),
        output,
        gradient,
        lse,
        lse_gradient if lse_gradient is not None else lse,
        delta,
        queries,
        heads,
        *output.stride()[:3],
        *gradient.stride()[:3],
        HAS_LSE_GRADIENT=lse_gradient is not None,
        HEAD=head_size,
        WIDTH=width(head_size),
        **chosen,
    )
    result = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
    chosen = tile(kernel_name("fused_gradient", query), head_size, query.device)
    chosen.pop("ATOMIC")
    tensors = (gradient, query, key, value, lse, delta)
    rest = _launch_keys(*tensors, result, sides, scale, chosen)
    return result.to(query.dtype), *rest


def _launch_keys(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lse: Tensor,
    delta: Tensor,
    query_result: Tensor | None,
    sides: tuple[Tensor, Tensor, Tensor, Tensor],
    scale: float,
    chosen: dict[str, int],
) -> tuple[Tensor, Tensor]:
    """The gradients of key and value; adds the query's to `query_result`, where there is one.

    `delta`: fp32 [batch, heads, queries], the row sums of output x gradient less the lse's
    gradient; `query_result`: fp32, of the query's shape; `chosen`: the kernel's tile.
    """
    queries, _, heads, head_size = query.shape
    keys, batch, kv_heads, _ = key.shape
    _, _, first, last = sides
    key_result = torch.empty(key.shape, dtype=key.dtype, device=key.device)
    value_result = torch.empty(key.shape, dtype=key.dtype, device=key.device)
    summed = query_result if query_result is not None else query
    launch(
        _key_gradient,
        (batch * kv_heads, triton.cdiv(keys, chosen["KEYS"])),
        query,
        key,
        value,
        gradient,
        first,
        last,
        lse,
        delta,
        summed,
        key_result,
        value_result,
        queries,
        keys,
        kv_heads,
        heads // kv_heads,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        *gradient.stride()[:3],
        first.stride(0),
        *summed.stride()[:3],
        *key_result.stride()[:3],
        scale * LOG2_E,
        scale,
        ATOMIC=query_result is not None,
        HEAD=head_size,
        WIDTH=width(head_size),
        **chosen,
    )
    return key_result, value_result
