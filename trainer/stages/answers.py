"""Log-probabilities of packed answers, summed over the context ranks that hold their tokens."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.cross_entropy import IGNORE
from trainer.parallel.layout import Axis


def segment_ids(position_ids: Tensor) -> Tensor:
    """Which segment of its row each token belongs to, from 0; int64 [rows, sequence] as the input.

    A segment begins where `position_ids` is 0. Pass *whole* rows, and slice the result for a
    context rank. Padding after the last answer counts as a segment of its own.
    """
    return (position_ids == 0).cumsum(dim=1) - 1


def answer_log_probabilities(
    nats: Tensor, labels: Tensor, segments: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Each segment's log-probability of its labelled tokens, and how many these are.

    `nats`: fp32 [rows, sequence / context], the loss a token; `labels` and `segments` (the ids from
    `segment_ids`): int64 of that shape; `most`: columns of the result, segments a row at most.
    Returns fp32 and int64 [rows, most]; differentiable in `nats`; 0 where a segment has no label or
    a row has fewer segments. Under context parallelism these are this rank's partial sums:
    `sum_over_context` completes them.

    Masked sums rather than index_add, whose order varies on a GPU, since a resumed run must be
    bitwise equal; memory is `most` times that of `nats`, little beside a token's logits.
    """
    numbers = torch.arange(most, device=segments.device)[:, None]
    answered = (segments[:, None] == numbers) & (labels != IGNORE)[:, None]
    sums = torch.where(answered, -nats[:, None], 0.0).sum(dim=2)
    return sums, answered.sum(dim=2)


def sum_over_context(partial: Tensor, context: Axis) -> Tensor:
    """All-reduce `partial`, of any shape, over the context ranks; backward is the identity.

    Why backward does not reduce: let s = sum over c of s_c be a log-probability, of which context
    rank c holds the part s_c, and l(s) the loss, which every context rank computes but which must
    count once. Then the gradient of s_c is l'(s), which this rank's own backward pass has. (An
    all-reduce's own adjoint sums over the copies of l, and gives context.size times that.) Each
    rank's backward pass then computes the gradient that flows through its own tokens,
    attention carrying it to the keys and values of the others', as in next-token training: over
    the context ranks, these add up to dl/dw. The optimizer averages over replicas = data x context
    ranks. So where each rank multiplies its sum of losses by replicas.size / pairs, with `pairs`
    of the whole global batch, the weights get the gradient of the mean over all pairs.

    Metrics that are summed over replicas must be divided by context.size: there, every context
    rank's copy counts.
    """
    if context.size == 1:
        return partial
    total: Tensor = _SumOverContext.apply(partial, context.group)
    return total


class _SumOverContext(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, partial: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = partial.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def segment_indices(counts: Tensor, most: int) -> Tensor:
    """Indices of the real segments in a flattened [rows, most]; int64 [segments], in order.

    `counts`: int64 [rows], real segments a row. Computed on the device of `counts`: with them on
    the CPU there is no device sync. Segments come in pairs:
    `values.flatten()[indices].view(-1, 2)`.
    """
    real = torch.arange(most, device=counts.device) < counts[:, None]
    return real.flatten().nonzero().flatten()
