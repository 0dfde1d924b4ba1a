"""Cross entropy over a vocabulary that tensor-parallel ranks share (Shoeybi et al. 2019)."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

IGNORE = -100
"""The label of a token that is not supervised, such as padding."""


def cross_entropy(logits: Tensor, labels: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Negative log-likelihood of each label, in nats; 0 where the label is IGNORE.

    `logits`: [..., vocab / group size], fp32 or bf16, this rank's slice of the vocabulary (rank r
    of `group` holds ids from r * slice on); `labels`: [...], int64, ids of the whole vocabulary.
    Returns fp32 [...], equal on all ranks of the group.
    """
    if group is None or group.size() == 1:
        losses = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
        )
        return losses.view(labels.shape)
    losses = _VocabularyParallel.apply(logits, labels, group)
    assert isinstance(losses, Tensor)
    return losses


class _VocabularyParallel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, group: dist.ProcessGroup) -> Tensor:
        slice_size = logits.shape[-1]
        local = labels - group.rank() * slice_size
        elsewhere = (local < 0) | (local >= slice_size)
        local = local.masked_fill(elsewhere, 0).unsqueeze(-1)

        wide = logits.float()
        highest = wide.amax(dim=-1)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=group)
        exponents = (wide - highest.unsqueeze(-1)).exp_()
        own = wide.gather(-1, local).squeeze(-1).masked_fill(elsewhere, 0.0)
        sums = torch.stack((exponents.sum(dim=-1), own))
        dist.all_reduce(sums, group=group)
        denominator, target = sums

        ignored = labels == IGNORE
        probabilities = exponents.div_(denominator.unsqueeze(-1))
        ctx.save_for_backward(probabilities, local, elsewhere, ignored)
        ctx.dtype = logits.dtype
        return (denominator.log() + highest - target).masked_fill(ignored, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        probabilities, local, elsewhere, ignored = ctx.saved_tensors
        hit = elsewhere.logical_not().to(probabilities.dtype).unsqueeze(-1)
        gradient = probabilities.scatter_add(-1, local, -hit)
        gradient *= grads[0].masked_fill(ignored, 0.0).unsqueeze(-1)
        return gradient.to(ctx.dtype), None, None
