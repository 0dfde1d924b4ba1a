"""Cross entropy in PyTorch: the CPU's implementation, and what the kernels are tested against.

All is computed in fp32; in fp64 where the logits are fp64.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.cross_entropy.terms import IGNORE, Terms, gather, group_name, slice_of


def reference(
    logits: Tensor,
    labels: Tensor,
    group: dist.ProcessGroup | None = None,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """`cross_entropy` with reduction "none": fp32 [...] from logits [..., vocab / ranks]."""
    terms = Terms(group_name(group), ignore_index, label_smoothing, z_loss)
    if terms.group:
        return reference_with_nats(logits, labels, terms)[0]
    wide = _wide(logits)
    losses = torch.nn.functional.cross_entropy(
        wide.reshape(-1, wide.shape[-1]),
        labels.reshape(-1),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="none",
    ).view(labels.shape)
    if z_loss:
        squares = wide.logsumexp(dim=-1).square()
        losses = losses + z_loss * squares.masked_fill(labels == ignore_index, 0.0)
    return losses


def reference_with_nats(logits: Tensor, labels: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """`cross_entropy_with_nats` with reduction "none": both fp32 [...]."""
    losses, nats = _Analytic.apply(logits, labels, terms)
    return losses, losses.detach() if terms.plain else nats


def reference_losses(logits: Tensor, labels: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """(losses fp32 [...], statistics fp32 [terms.statistics, ...]), as the kernels' forward.

    `logits`: [..., vocab / ranks], this rank's slice; `labels`: int64 [...].
    """
    width = logits.shape[-1]
    first, vocab = slice_of(terms, width)
    wide = _wide(logits)
    highest = wide.amax(dim=-1)
    sums = (wide - _shift(highest).unsqueeze(-1)).exp_().sum(dim=-1)
    column, elsewhere = _columns(labels, first, width)
    target = wide.gather(-1, column).squeeze(-1).masked_fill(elsewhere, 0.0)
    total = wide.sum(dim=-1) if terms.label_smoothing else torch.zeros_like(target)
    if terms.group:
        # [4, ranks, ...]
        each = gather(torch.stack((highest, sums, target, total)), terms).transpose(0, 1)
        highest = each[0].amax(dim=0)
        sums = (each[1] * (each[0] - _shift(highest)).exp_()).sum(dim=0)
        target, total = each[2].sum(dim=0), each[3].sum(dim=0)
    ignored = labels == terms.ignore_index
    log2_sum = sums.log2()
    log_sum = log2_sum * math.log(2.0)
    losses = highest - target
    nats = losses + log_sum
    if terms.label_smoothing:
        smoothing = terms.label_smoothing
        losses = (1.0 - smoothing) * losses + smoothing * (highest - total / vocab)
    losses = losses + log_sum
    if terms.z_loss:
        losses = losses + terms.z_loss * (highest + log_sum).square()
    unknown = (labels < 0) | (labels >= vocab)

    def known(values: Tensor) -> Tensor:
        return values.masked_fill(unknown, math.nan).masked_fill(ignored, 0.0)

    statistics = (highest, log2_sum) if terms.plain else (highest, log2_sum, known(nats))
    return known(losses), torch.stack(statistics)


def reference_gradient(
    upstream: Tensor, logits: Tensor, labels: Tensor, statistics: Tensor, terms: Terms
) -> Tensor:
    """The logits' gradient, in their shape and dtype.

    `upstream`: fp32, of the labels' shape, or [] for all of them; `statistics` as
    `reference_losses` gave them.
    """
    first, vocab = slice_of(terms, logits.shape[-1])
    highest, log_sum = statistics[0], statistics[1] * math.log(2.0)
    exponents = _wide(logits) - highest.unsqueeze(-1)
    gradient = exponents.sub_(log_sum.unsqueeze(-1)).exp_()
    if terms.z_loss:
        gradient *= (1.0 + 2.0 * terms.z_loss * (highest + log_sum)).unsqueeze(-1)
    if terms.label_smoothing:
        gradient -= terms.label_smoothing / vocab
    column, elsewhere = _columns(labels, first, logits.shape[-1])
    hit = elsewhere.logical_not().to(gradient.dtype).unsqueeze(-1)
    gradient.scatter_add_(-1, column, -(1.0 - terms.label_smoothing) * hit)
    gradient *= upstream.unsqueeze(-1)
    ignored = (labels == terms.ignore_index).unsqueeze(-1)
    return gradient.masked_fill_(ignored, 0.0).to(logits.dtype)


class _Analytic(torch.autograd.Function):
    """(losses, plain cross entropy or nothing), the gradient by its formula.

    Each rank may have a slice of the vocabulary (Shoeybi et al. 2019, section 3).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
        losses, statistics = reference_losses(logits, labels, terms)
        nats = statistics.new_empty(0) if terms.plain else statistics[2].clone()
        ctx.save_for_backward(logits, labels, statistics)
        ctx.mark_non_differentiable(nats)
        ctx.set_materialize_grads(False)
        ctx.terms = terms
        return losses, nats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, upstream: Tensor | None, _nats: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        if upstream is None:
            return None, None, None
        logits, labels, statistics = ctx.saved_tensors
        gradient = reference_gradient(upstream, logits, labels, statistics, ctx.terms)
        return gradient, None, None


def _columns(labels: Tensor, first: int, width: int) -> tuple[Tensor, Tensor]:
    """(each label's column in this slice [..., 1], 0 where it is elsewhere; whether it is)."""
    column = labels - first
    elsewhere = (column < 0) | (column >= width)
    return column.masked_fill(elsewhere, 0).unsqueeze(-1), elsewhere


def _shift(highest: Tensor) -> Tensor:
    """What to subtract before an exponential: not -inf, from which -inf would leave NaN."""
    return highest.masked_fill(highest == -math.inf, 0.0)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
