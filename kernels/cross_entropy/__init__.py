"""Cross entropy with label smoothing and z-loss, over a vocabulary that may be sharded over ranks.

Memory-bound: three passes over the logits, read for the loss, read and written for the gradient.
With reduction "sum" and an unsharded vocabulary, the gradient is written over the logits while the
row is still in the L2 cache: one read and one write of memory. That holds as long as the rows in
flight, one or a few a processor, fit in L2 (by size, 180,000 columns of bf16 on an H200); beyond,
the second read goes to memory. With tensor parallelism the gradient needs the other ranks'
statistics: three passes, and one collective of 16 bytes a token and rank.

The maximum and the sum of exponentials are kept online (Milakov & Gimelshein 2018), each thread for
its own columns, a vector at a time, so that a pass costs 1.13 exponentials an element. Rows that
start off a 16-byte boundary (an odd vocabulary) are read in whole vectors but for both ends.
"""

from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.arguments import (
    check,
    check_device,
    check_dtype,
    check_last_stride,
    check_shape,
    rows_of,
)
from kernels.cross_entropy import operator
from kernels.cross_entropy.reference import reference, reference_with_nats
from kernels.cross_entropy.terms import IGNORE, Terms, group_name
from kernels.dispatch import use_triton

__all__ = ["IGNORE", "cross_entropy", "cross_entropy_with_nats"]


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    group: dist.ProcessGroup | None = None,
    *,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "none",
    inplace: bool = False,
    expected_gradient: Tensor | None = None,
) -> Tensor:
    """The loss lse - logit of the label, lse = log(sum(exp(logits))), in nats; 0 if ignored.

    `logits`: [..., vocab / group size], fp32 or bf16, this rank's slice of the vocabulary (rank r
    of `group` holds ids from r * slice on); -inf is allowed but at a label. `labels`: [...], int64,
    ids of the whole vocabulary, or `ignore_index`. Another label raises ValueError on the CPU; on a
    GPU, where a check would synchronise, its loss and gradient are NaN. `label_smoothing` is
    spread over the whole vocabulary (Szegedy et al. 2016, section 7); `z_loss` * lse^2 is added
    (PaLM, section 5). Returns fp32, equal on all ranks of the group: [...], or with `reduction`
    "sum" a 0-dim sum.

    `inplace`: where a gradient is needed, it may be written over the logits, which are then lost;
    autograd raises RuntimeError where another operator's backward needs them, and in a second
    backward. Logits must not be a leaf, and their rows must have one stride. With "sum" and without
    a group this saves a pass: the gradient is computed in the forward pass, for the upstream
    gradient `expected_gradient` (0-dim fp32, not 0; by default 1). If that turns out right, the
    backward pass is free; if not, one more pass rescales the gradient.
    Raises ValueError for a wrong shape, dtype, device, stride, label or number.
    """
    losses, _ = _losses_and_nats(
        *(logits, labels, group, ignore_index, label_smoothing, z_loss, reduction, inplace),
        *(expected_gradient, False),
    )
    return losses


def cross_entropy_with_nats(
    logits: Tensor,
    labels: Tensor,
    group: dist.ProcessGroup | None = None,
    *,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "none",
    inplace: bool = False,
    expected_gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(`cross_entropy`, the same without label smoothing and z-loss), both fp32 of one shape.

    The second has no gradient; it costs one number a row, as both follow from the same statistics.
    Arguments and errors as in `cross_entropy`.
    """
    return _losses_and_nats(
        *(logits, labels, group, ignore_index, label_smoothing, z_loss, reduction, inplace),
        *(expected_gradient, True),
    )


def _losses_and_nats(
    logits: Tensor,
    labels: Tensor,
    group: dist.ProcessGroup | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    reduction: str,
    inplace: bool,
    expected_gradient: Tensor | None,
    wants_nats: bool,
) -> tuple[Tensor, Tensor]:
    """The second result means nothing unless it is wanted."""
    shared = group_name(group)
    vocab = logits.shape[-1:].numel() * (group.size() if group is not None and shared else 1)
    _check(logits, labels, vocab, ignore_index)
    check_terms(label_smoothing, z_loss, reduction, expected_gradient, logits)
    differentiated = torch.is_grad_enabled() and logits.requires_grad
    if inplace:
        _check_inplace(logits, differentiated)
    terms = Terms(shared, ignore_index, float(label_smoothing), float(z_loss))
    if not use_triton(logits):
        if wants_nats and not terms.plain:
            both = reference_with_nats(logits, labels, terms)
        else:
            losses = reference(logits, labels, group, ignore_index, label_smoothing, z_loss)
            both = losses, losses.detach()
        return _reduced(*both, reduction, terms)
    rows, flat_labels = rows_of(logits), labels.reshape(-1)
    if inplace and differentiated:
        hoped = None
        if reduction == "sum" and not shared:
            hoped = expected(expected_gradient, logits)
        losses, nats = operator.cross_entropy_in_place(rows, flat_labels, hoped, terms)
        if hoped is not None:
            return losses, nats
    else:
        losses, statistics = operator.cross_entropy(rows, flat_labels, *terms)
        nats = losses.detach() if terms.plain else statistics[2]
    return _reduced(losses.view(labels.shape), nats.view(labels.shape), reduction, terms)


def _reduced(losses: Tensor, nats: Tensor, reduction: str, terms: Terms) -> tuple[Tensor, Tensor]:
    if reduction == "none":
        return losses, nats
    total = losses.sum()
    return total, total.detach() if terms.plain else nats.sum()


def expected(expected_gradient: Tensor | None, like: Tensor) -> Tensor:
    """The upstream gradient, fp32 [], assumed by a gradient computed in the forward pass.

    1 on `like`'s device where None is given; else a copy, as callers may reuse theirs.
    """
    if expected_gradient is not None:
        return expected_gradient.detach().clone()
    return torch.ones((), dtype=torch.float32, device=like.device)


def check_labels(
    labels: Tensor, like_name: str, like: Tensor, vocab: int, ignore_index: int
) -> None:
    """Raise ValueError unless labels, [...], are int64 ids or `ignore_index`.

    `like`: [..., any], a row a label.
    """
    check_dtype("labels", labels, (torch.int64,))
    shape = like.shape[:-1]
    check_shape("labels", labels, shape, f"that of {like_name} without its last dimension")
    check_device("labels", labels, like_name, like)
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or type(labels) is not Tensor:
        return  # numbers that a GPU has yet to compute, or that a fake doesn't have
    wrong = labels[(labels != ignore_index) & ((labels < 0) | (labels >= vocab))]
    check(
        wrong.numel() == 0,
        f"labels: {wrong[:1].tolist()} is neither an id of the vocabulary of {vocab} nor "
        f"ignore_index ({ignore_index})",
    )


def check_terms(
    label_smoothing: float,
    z_loss: float,
    reduction: str,
    expected_gradient: Tensor | None,
    like: Tensor,
) -> None:
    """Raise ValueError unless the loss's settings are such as `cross_entropy` documents."""
    check(0.0 <= label_smoothing < 1.0, f"label_smoothing: {label_smoothing} is not in [0, 1)")
    check(z_loss >= 0.0, f"z_loss: {z_loss} is negative; use 0 or more")
    check(reduction in ("none", "sum"), f"reduction: {reduction!r} is unknown; use none or sum")
    if expected_gradient is not None:
        check_dtype("expected_gradient", expected_gradient, (torch.float32,))
        check_shape("expected_gradient", expected_gradient, (), "that of a number")
        check_device("expected_gradient", expected_gradient, "the input", like)


def _check(logits: Tensor, labels: Tensor, vocab: int, ignore_index: int) -> None:
    check_dtype("logits", logits)
    check(
        logits.dim() > 0 and logits.shape[-1] > 0,
        f"logits: shape {list(logits.shape)} has no vocabulary in its last dimension",
    )
    check_labels(labels, "logits", logits, vocab, ignore_index)


def _check_inplace(logits: Tensor, differentiated: bool) -> None:
    check(
        not (differentiated and logits.is_leaf),
        "inplace: logits are a leaf that needs its gradient; use inplace=False",
    )
    check_last_stride("logits", logits)
    check(
        logits.numel() == 0 or _evenly_apart(logits),
        "inplace: rows of the logits overlap or lie at uneven distances",
    )


def _evenly_apart(logits: Tensor) -> bool:
    """Whether the rows are one matrix in memory, none of them over another."""
    outer = zip(logits.shape[:-1], logits.stride()[:-1], strict=True)
    several = [(size, stride) for size, stride in outer if size > 1]
    even = all(
        stride == inner_size * inner_stride
        for (_, stride), (inner_size, inner_stride) in pairwise(several)
    )
    return even and (not several or several[-1][1] >= logits.shape[-1])
