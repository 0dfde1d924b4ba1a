"""The Triton kernels as operators of PyTorch, which torch.compile and autograd see through."""

from typing import Any

import torch
from torch import Tensor

from kernels.attention.backward import launch_backward
from kernels.attention.forward import launch_forward


@torch.library.custom_op("lyceum::attention", mutates_args=())
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    low: Tensor,
    high: Tensor,
    first: Tensor,
    last: Tensor,
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    return launch_forward(query, key, value, low, high, scale)


@_attention.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    low: Tensor,
    high: Tensor,
    first: Tensor,
    last: Tensor,
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    queries, batch, heads, _ = query.shape
    output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    return output, output.new_empty((batch, heads, queries), dtype=torch.float32)


@torch.library.custom_op("lyceum::attention_backward", mutates_args=())
def _attention_backward(
    gradient: Tensor,
    lse_gradient: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    low: Tensor,
    high: Tensor,
    first: Tensor,
    last: Tensor,
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    sides = (low, high, first, last)
    return launch_backward(
        gradient, lse_gradient, query, key, value, output, lse, sides, scale, deterministic
    )


@_attention_backward.register_fake
def _(
    gradient: Tensor,
    lse_gradient: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    low: Tensor,
    high: Tensor,
    first: Tensor,
    last: Tensor,
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    query_gradient, key_gradient, value_gradient = (
        torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        for tensor in (query, key, value)
    )
    return query_gradient, key_gradient, value_gradient


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.deterministic = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output)


def _differentiate(
    ctx: Any, gradient: Tensor | None, lse_gradient: Tensor | None
) -> tuple[Tensor | None, ...]:
    query, key, value, low, high, first, last, output, lse = ctx.saved_tensors
    if gradient is None and lse_gradient is None:
        return (None,) * 9
    if gradient is None:
        gradient = torch.zeros_like(output)
    gradients = _attention_backward(
        gradient if gradient.stride(-1) == 1 else gradient.contiguous(),
        lse_gradient.contiguous() if lse_gradient is not None else None,
        *(query, key, value, output, lse, low, high, first, last),
        ctx.scale,
        ctx.deterministic,
    )
    return *gradients, None, None, None, None, None, None


_attention.register_autograd(_differentiate, setup_context=_setup)


def triton_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sides: tuple[Tensor, Tensor, Tensor, Tensor],
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    """(output, lse) as `attention_with_lse`, whose arguments are checked by then.

    `query`: fp32 or bf16 [queries, batch, heads, head_size]; `key`, `value`: [keys, batch,
    kv_heads, head_size]; `sides`: low and high int32 [batch, queries], first and last int32
    [batch, keys]. Gives [queries, batch, heads, head_size] and fp32 [batch, heads, queries].
    """
    output: Tensor
    lse: Tensor
    output, lse = _attention(query, key, value, *sides, scale, deterministic)
    return output, lse
