"""Log-probabilities of the answers that lie packed in rows, whichever rank holds their tokens."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.cross_entropy import IGNORE
from trainer.parallel.layout import Axis


def segment_ids(position_ids: Tensor) -> Tensor:
    """Which segment of its row each token belongs to, from 0; int64 [rows, sequence] as the input.

    A segment begins where `position_ids` is 0. It takes *whole* rows: context ranks cut out their
    places from what it gives. Padding after the last answer counts as a segment of its own.
    """
    return (position_ids == 0).cumsum(dim=1) - 1


def answer_log_probabilities(
    nats: Tensor, labels: Tensor, segments: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Each segment's log-probability of its labelled tokens, and how many these are.

    `nats`: fp32 [rows, sequence / context], the loss a token; `labels` and `segments` (the ids from
    `segment_ids`): int64 of that shape; `most`: segments that the result has room for a row. Gives
    fp32 and int64 [rows, most]; differentiable in `nats`; 0 where a segment has no label or a row
    has fewer segments. Under context parallelism these are this rank's parts of the sums:
    `sum_over_context` completes them.

    Masks and sums, as adding by index has no fixed order on a GPU and a resumed run must repeat
    the last bit; memory is `most` times that of `nats`, little beside a token's logits.
    """
    numbers = torch.arange(most, device=segments.device)[:, None]
    answered = (segments[:, None] == numbers) & (labels != IGNORE)[:, None]
    sums = torch.where(answered, -nats[:, None], 0.0).sum(dim=2)
    return sums, answered.sum(dim=2)


def sum_over_context(partial: Tensor, context: Axis) -> Tensor:
    """The sum over context ranks of what each holds, on all of them; its gradient comes back as is.

    Why the backward pass adds nothing up: let s = sum over c of s_c be a log-probability, of which
    context rank c holds the part s_c, and l(s) the loss, which every context rank computes but
    which is to count once. Then the gradient of s_c is l'(s), and this rank's own backward pass
    has it. (An all-reduce's own adjoint adds up the copies of l, and gives context.size times
    that.) Each rank's backward pass then makes the gradient that flows through its own tokens,
    attention carrying it to the keys and values of the others', as in next-token training: over
    the context ranks, these add up to dl/dw. The optimizer averages over replicas = data x context
    ranks. So where each rank multiplies its sum of losses by replicas.size / pairs, with `pairs`
    of the whole global batch, the weights get the gradient of the mean over all pairs.

    What is *reported* and added up over replicas is to be divided by context.size: there, every
    context rank's copy counts.
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


def answer_places(counts: Tensor, most: int) -> Tensor:
    """Where the real segments stand in a flattened [rows, most]; int64 [segments], in their order.

    `counts`: int64 [rows], real segments a row. Computed where `counts` lies: on the CPU, and then
    moved, no GPU is waited for. Segments come in twos: `values.flatten()[places].view(-1, 2)`.
    """
    real = torch.arange(most, device=counts.device) < counts[:, None]
    return real.flatten().nonzero().flatten()
