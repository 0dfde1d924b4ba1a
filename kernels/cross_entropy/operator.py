"""Cross entropy as torch operators: what autograd, torch.compile and FakeTensor see."""

from typing import Any

import torch
from torch import Tensor

from kernels.cross_entropy.backward import launch_backward, launch_rescale
from kernels.cross_entropy.forward import launch_forward
from kernels.cross_entropy.parallel import parallel_losses
from kernels.cross_entropy.terms import Terms


def token_losses(logits: Tensor, labels: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """(losses fp32 [rows], statistics fp32 [terms.statistics, rows]).

    `logits`: fp32 or bf16 [rows, vocab], or this rank's slice of the vocabulary; `labels`: int64
    [rows], ids of the whole one.
    """
    if terms.group:
        return parallel_losses(logits, labels, terms)
    return launch_forward(logits, labels, terms)


@torch.library.custom_op("lyceum::cross_entropy", mutates_args=())
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> tuple[Tensor, Tensor]:
    """As `token_losses`: losses fp32 [rows], statistics fp32 [Terms.statistics, rows]."""
    return token_losses(logits, labels, Terms(group, ignore_index, label_smoothing, z_loss))


@cross_entropy.register_fake
def _(
    logits: Tensor,
    labels: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> tuple[Tensor, Tensor]:
    return _fake_losses(logits, Terms(group, ignore_index, label_smoothing, z_loss))


def _fake_losses(logits: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    losses = logits.new_empty(logits.shape[0], dtype=torch.float32)
    return losses, losses.new_empty((terms.statistics, logits.shape[0]))


@torch.library.custom_op("lyceum::cross_entropy_backward", mutates_args=())
def cross_entropy_backward(
    upstream: Tensor,
    logits: Tensor,
    labels: Tensor,
    statistics: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> Tensor:
    """The gradient of logits [rows, vocab], in a tensor of its own of their shape and dtype.

    `upstream`: fp32 [rows]; `statistics`: fp32 [2 or 3, rows], from the forward pass.
    """
    terms = Terms(group, ignore_index, label_smoothing, z_loss)
    out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    launch_backward(upstream, logits, labels, statistics, out, terms)
    return out


@cross_entropy_backward.register_fake
def _(
    upstream: Tensor,
    logits: Tensor,
    labels: Tensor,
    statistics: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> Tensor:
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, labels, *ctx.terms = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, labels, output[1])


def _differentiate(
    ctx: Any, upstream: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    gradient = None
    if upstream is not None:
        gradient = cross_entropy_backward(upstream, *ctx.saved_tensors, *ctx.terms)
    return gradient, None, None, None, None, None


cross_entropy.register_autograd(_differentiate, setup_context=_setup)


@torch.library.custom_op("lyceum::cross_entropy_", mutates_args=("logits",))
def cross_entropy_(
    logits: Tensor,
    labels: Tensor,
    expected: Tensor,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> tuple[Tensor, Tensor]:
    """As `token_losses` of the whole vocabulary; overwrites the logits with their gradient.

    It is computed for the upstream gradient `expected`, fp32 [].
    """
    terms = Terms("", ignore_index, label_smoothing, z_loss)
    return launch_forward(logits, labels, terms, expected)


@cross_entropy_.register_fake
def _(
    logits: Tensor,
    labels: Tensor,
    expected: Tensor,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> tuple[Tensor, Tensor]:
    return _fake_losses(logits, Terms("", ignore_index, label_smoothing, z_loss))


@torch.library.custom_op("lyceum::cross_entropy_backward_", mutates_args=("logits",))
def cross_entropy_backward_(
    upstream: Tensor,
    logits: Tensor,
    labels: Tensor,
    statistics: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> None:
    """Overwrite the logits with their gradient; arguments as in `cross_entropy_backward`."""
    terms = Terms(group, ignore_index, label_smoothing, z_loss)
    launch_backward(upstream, logits, labels, statistics, logits, terms)


@torch.library.custom_op("lyceum::rescale_", mutates_args=("gradient",))
def rescale_(gradient: Tensor, upstream: Tensor, expected: Tensor) -> None:
    """The gradient [rows, width] times upstream / expected; untouched where the two are equal.

    `upstream`, `expected`: fp32 [].
    """
    launch_rescale(gradient, upstream, expected)


class _SummedInPlace(torch.autograd.Function):
    """Sums of losses and of plain cross entropy; the logits become the gradient in forward."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, expected: Tensor, *terms: Any
    ) -> tuple[Tensor, Tensor]:
        losses, statistics = cross_entropy_(logits, labels, expected, *terms)
        ctx.save_for_backward(logits, expected)
        return losses.sum(), _nats(ctx, statistics, summed=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, upstream: Tensor | None, _nats: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return (None,) * 6
        saved, expected = ctx.saved_tensors
        gradient = saved.detach()
        rescale_(gradient, upstream, expected)
        return gradient, None, None, None, None, None


class _InPlace(torch.autograd.Function):
    """Losses and plain cross entropy a token; the logits become the gradient in backward."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, *terms: Any) -> tuple[Tensor, Tensor]:
        losses, statistics = cross_entropy(logits, labels, *terms)
        ctx.save_for_backward(logits, labels, statistics)
        ctx.terms = terms
        return losses, _nats(ctx, statistics, summed=False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, upstream: Tensor | None, _nats: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return (None,) * 6
        saved, labels, statistics = ctx.saved_tensors
        gradient = saved.detach()
        cross_entropy_backward_(upstream, gradient, labels, statistics, *ctx.terms)
        return gradient, None, None, None, None, None


def _nats(ctx: Any, statistics: Tensor, summed: bool) -> Tensor:
    """A function's second result, the plain cross entropy: fp32 [] or [rows]; [0] where unused."""
    if statistics.shape[0] == 2:
        nats = statistics.new_empty(0)
    else:
        nats = statistics[2].sum() if summed else statistics[2].clone()
    ctx.mark_non_differentiable(nats)
    ctx.set_materialize_grads(False)
    return nats


def cross_entropy_in_place(
    logits: Tensor, labels: Tensor, expected: Tensor | None, terms: Terms
) -> tuple[Tensor, Tensor]:
    """(losses, plain cross entropy), fp32 [rows]; with `expected`, fp32 [], their sums [].

    `logits`: fp32 or bf16 [rows, vocab], which the backward pass (with `expected` the forward
    pass) makes their gradient; `labels`: int64 [rows].
    """
    if expected is None:
        losses, nats = _InPlace.apply(logits, labels, *terms)
    else:
        losses, nats = _SummedInPlace.apply(logits, labels, expected, *terms[1:])
    return losses, losses.detach() if terms.plain else nats
