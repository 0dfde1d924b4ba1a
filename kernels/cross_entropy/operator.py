"""Cross entropy as torch operators: what autograd, torch.compile and FakeTensor see."""

from typing import Any

import torch
from torch import Tensor

from kernels.cross_entropy.backward import launch_backward, launch_rescale
from kernels.cross_entropy.forward import launch_forward
from kernels.cross_entropy.parallel import parallel_losses
from kernels.cross_entropy.terms import Terms


def token_losses(logits: Tensor, labels: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """(losses [rows], statistics [2, rows]), whether or not ranks share the vocabulary."""
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
    """(losses, statistics) of rows, as `token_losses` has them."""
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
    losses = logits.new_empty(logits.shape[0], dtype=torch.float32)
    return losses, losses.new_empty((2, logits.shape[0]))


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
    """The gradient of rows of logits, in a tensor of its own."""
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
) -> Tensor:
    """Losses; the logits become their gradient, for the upstream gradient `expected`."""
    terms = Terms("", ignore_index, label_smoothing, z_loss)
    return launch_forward(logits, labels, terms, expected)[0]


@cross_entropy_.register_fake
def _(
    logits: Tensor,
    labels: Tensor,
    expected: Tensor,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
) -> Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.float32)


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
    """The logits become their gradient."""
    terms = Terms(group, ignore_index, label_smoothing, z_loss)
    launch_backward(upstream, logits, labels, statistics, logits, terms)


@torch.library.custom_op("lyceum::rescale_", mutates_args=("gradient",))
def rescale_(gradient: Tensor, upstream: Tensor, expected: Tensor) -> None:
    """The gradient times upstream / expected; untouched where the two are equal."""
    launch_rescale(gradient, upstream, expected)


class _SummedInPlace(torch.autograd.Function):
    """The sum of the losses; the logits become the gradient in the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, expected: Tensor, *terms: Any) -> Tensor:
        losses: Tensor = cross_entropy_(logits, labels, expected, *terms)
        ctx.save_for_backward(logits, expected)
        return losses.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved, expected = ctx.saved_tensors
        gradient = saved.detach()
        rescale_(gradient, upstream, expected)
        return gradient, None, None, None, None, None


class _InPlace(torch.autograd.Function):
    """Losses of tokens; the logits become the gradient in the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, *terms: Any) -> Tensor:
        losses, statistics = cross_entropy(logits, labels, *terms)
        ctx.save_for_backward(logits, labels, statistics)
        ctx.terms = terms
        return losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved, labels, statistics = ctx.saved_tensors
        gradient = saved.detach()
        cross_entropy_backward_(upstream, gradient, labels, statistics, *ctx.terms)
        return gradient, None, None, None, None, None


def cross_entropy_in_place(
    logits: Tensor, labels: Tensor, expected: Tensor | None, terms: Terms
) -> Tensor:
    """Losses, whose backward pass makes the logits their gradient; with `expected` their sum."""
    if expected is None:
        result = _InPlace.apply(logits, labels, *terms)
    else:
        result = _SummedInPlace.apply(logits, labels, expected, *terms[1:])
    assert isinstance(result, Tensor)
    return result
