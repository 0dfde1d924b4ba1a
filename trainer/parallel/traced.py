"""megatron-core's linears and collectives, in a form that torch.compile can trace.

As shipped they gather into shared buffers, start asynchronous collectives, and warn through Python:
each of these breaks a graph. While a graph is traced, and only then, the functions below replace
them: the same arithmetic on PyTorch's functional collectives, which a graph may contain. Eager
calls run megatron-core's own.

Two differences in cost, none in value: under sequence parallelism a linear's gathered input is
saved for backward, where the eager path gathers it a second time; and overlapping collectives with
matrix products is left to the compiler. It has not been run on a GPU yet.
"""

from typing import Any

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel import layers, mappings
from torch import Tensor
from torch.distributed import _functional_collectives as functional


class _Copy(torch.autograd.Function):
    """Identity; backward sums the gradient over ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return functional.all_reduce(gradients[0].contiguous(), "sum", ctx.group), None


class _Reduce(torch.autograd.Function):
    """The sum over ranks; backward is the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        return functional.all_reduce(x.contiguous(), "sum", group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Gather(torch.autograd.Function):
    """All-gather along the first dimension; backward reduce-scatters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return functional.all_gather_tensor(x.contiguous(), 0, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return functional.reduce_scatter_tensor(
            gradients[0].contiguous(), "sum", 0, ctx.group
        ), None


class _ReduceScatter(torch.autograd.Function):
    """Reduce-scatter along the first dimension; backward all-gathers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return functional.reduce_scatter_tensor(x.contiguous(), "sum", 0, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return functional.all_gather_tensor(gradients[0].contiguous(), 0, ctx.group), None


def _instead_of(original: Any) -> Any:
    return torch.compiler.substitute_in_graph(original, skip_signature_check=True)


@_instead_of(mappings.copy_to_tensor_model_parallel_region)
def copy(input_: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[...] -> [...], equal on all ranks of the group."""
    return _Copy.apply(input_, group) if group.size() > 1 else input_


@_instead_of(mappings.reduce_from_tensor_model_parallel_region)
def reduce(input_: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[...] -> [...], the sum over the group."""
    return _Reduce.apply(input_, group) if group.size() > 1 else input_


@_instead_of(mappings.gather_from_sequence_parallel_region)
def gather(
    input_: Tensor, tensor_parallel_output_grad: bool = True, *, group: dist.ProcessGroup
) -> Tensor:
    """[sequence / ranks, ...] -> [sequence, ...]."""
    assert tensor_parallel_output_grad
    return _Gather.apply(input_, group) if group.size() > 1 else input_


@_instead_of(mappings.reduce_scatter_to_sequence_parallel_region)
def reduce_scatter(input_: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[sequence, ...] -> [sequence / ranks, ...], of the sum over the group."""
    return _ReduceScatter.apply(input_, group) if group.size() > 1 else input_


def _linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gradient_accumulation_fusion: bool,
    allreduce_dgrad: bool,
    sequence_parallel: bool,
    grad_output_buffer: None = None,
    wgrad_deferral_limit: int | None = 0,
    async_grad_allreduce: None = None,
    tp_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """[sequence, batch, inputs], or this rank's slice of it -> [sequence, batch, outputs].

    `weight`: [outputs, inputs], this tensor rank's shard, in the input's dtype.
    """
    assert not gradient_accumulation_fusion and grad_output_buffer is None
    if sequence_parallel:
        assert tp_group is not None
        input = gather(input, group=tp_group)
    elif allreduce_dgrad:
        assert tp_group is not None
        input = copy(input, tp_group)
    output = torch.matmul(input, weight.t())
    return output if bias is None else output + bias


@_instead_of(layers.linear_with_grad_accumulation_and_async_allreduce)
def linear(*arguments: Any, **named: Any) -> Tensor:
    """The product x @ weight^T + bias, weight trainable; arguments as megatron-core's."""
    return _linear(*arguments, **named)


@_instead_of(layers.linear_with_frozen_weight)
def frozen_linear(*arguments: Any, **named: Any) -> Tensor:
    """The same with a frozen weight."""
    return _linear(*arguments, **named)
