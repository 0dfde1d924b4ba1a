"""The output projection and cross entropy in one operator: all tokens' logits never exist.

Tokens are processed in chunks: cuBLAS computes a chunk's logits in one buffer, their gradient
overwrites them, and two more products turn that into the gradients of the hidden states and of the
weight. Bound by those products: 2 * tokens * hidden * vocabulary operations forward and twice that
backward. For a summed loss the gradients are computed in the forward pass, while the chunk's logits
exist; for losses a token, whose upstream gradients are not known yet, the backward pass recomputes
the logits, a third more work. The weight's gradient is summed in fp32 over the chunks, whose size
is a trade-off: each one reads and writes that sum, and each one's logits take memory.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.arguments import check, check_device, check_dtype, check_shape, rows_of
from kernels.cross_entropy import check_labels, check_terms, expected
from kernels.cross_entropy.backward import launch_backward
from kernels.cross_entropy.forward import launch_forward
from kernels.cross_entropy.operator import rescale_, token_losses
from kernels.cross_entropy.reference import reference_gradient, reference_losses
from kernels.cross_entropy.terms import IGNORE, Terms, group_name
from kernels.dispatch import use_triton

CHUNK_BYTES = 2**29
"""Bytes of a chunk's logits by default: 2048 tokens of 128,256 ids in bf16."""

_ALIGNMENT = 64
"""Row stride of the logits is a multiple of this many elements, for odd vocabularies' products."""

_MIXED = "dtype_out" in torch.ops.aten.addmm.overloads()
"""Whether torch can add a product of bf16 matrices to an fp32 one, on a GPU."""


def _chunks(hidden: Tensor, weight: Tensor, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Yields (rows, logits [rows, vocab / ranks] in hidden's dtype), all in the same buffer.

    `hidden`: [tokens, hidden]; `weight`: [vocab / ranks, hidden]; `chunk`: rows at a time.
    """
    rows, width = hidden.shape[0], weight.shape[0]
    stride = -(-width // _ALIGNMENT) * _ALIGNMENT
    whole = hidden.new_empty((min(rows, chunk), stride))
    # A product may read rows to their stride and multiply what lies behind the last column by 0, as
    # torch's does for bf16 on CPUs with AMX: a NaN of earlier use of that memory would stay NaN.
    whole[:, width:].zero_()
    buffer = whole[:, :width]
    for start in range(0, rows, chunk):
        part = slice(start, min(start + chunk, rows))
        logits = buffer[: part.stop - start]
        torch.mm(hidden[part], weight.t(), out=logits)
        yield part, logits


def _losses(logits: Tensor, labels: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """As `operator.token_losses`."""
    if use_triton(logits):
        return token_losses(logits, labels, terms)
    return reference_losses(logits, labels, terms)


def _gradient(
    upstream: Tensor, logits: Tensor, labels: Tensor, statistics: Tensor, terms: Terms
) -> None:
    """Overwrite the logits with their gradient; shapes as in `backward.launch_backward`."""
    if use_triton(logits):
        launch_backward(upstream, logits, labels, statistics, logits, terms)
    else:
        logits.copy_(reference_gradient(upstream, logits, labels, statistics, terms))


def _losses_and_gradient(
    logits: Tensor, labels: Tensor, hoped: Tensor, terms: Terms
) -> tuple[Tensor, Tensor]:
    """As `_losses`; overwrites the logits with their gradient for the upstream `hoped`, fp32 []."""
    if use_triton(logits) and not terms.group:
        return launch_forward(logits, labels, terms, hoped)
    losses, statistics = _losses(logits, labels, terms)
    _gradient(hoped, logits, labels, statistics, terms)
    return losses, statistics


class _Gradients:
    """Accumulates the gradients of hidden states and weight over chunks; [0] where not needed.

    `of_hidden`: as `hidden`, [tokens, hidden] in its dtype; `of_weight`: [vocab / ranks, hidden] in
    fp32. The constructor's flags of these names say which are needed.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, of_hidden: bool, of_weight: bool) -> None:
        self.hidden, self.weight = hidden, weight
        self.of_hidden = torch.empty_like(hidden) if of_hidden else hidden.new_empty(0)
        self.of_weight = weight.new_empty(0, dtype=torch.float32)
        if of_weight:
            make = torch.empty if hidden.shape[0] else torch.zeros
            self.of_weight = make(weight.shape, dtype=torch.float32, device=weight.device)

    def add(self, part: slice, gradient: Tensor) -> None:
        """Add the contribution of a chunk; `gradient`: of its logits, [rows, vocab / ranks]."""
        if self.of_hidden.numel():
            torch.mm(gradient, self.weight, out=self.of_hidden[part])
        if self.of_weight.numel():
            self._add_of_weight(gradient.t(), self.hidden[part], 0.0 if part.start == 0 else 1.0)

    def _add_of_weight(self, left: Tensor, right: Tensor, beta: float) -> None:
        total = self.of_weight
        if left.dtype == torch.float32:
            torch.addmm(total, left, right, beta=beta, out=total)
        elif left.is_cuda and _MIXED:
            torch.addmm(total, left, right, out_dtype=torch.float32, beta=beta, out=total)
        else:
            torch.addmm(total, left.float(), right.float(), beta=beta, out=total)

    def result(self, wide: bool) -> tuple[Tensor, Tensor]:
        """(dhidden, dweight); the latter in the weight's dtype, or in fp32 where `wide`."""
        kept = wide or self.weight.dtype == torch.float32
        return self.of_hidden, self.of_weight if kept else self.of_weight.to(self.weight.dtype)


@torch.library.custom_op("lyceum::linear_cross_entropy", mutates_args=())
def _linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    terms = Terms(group, ignore_index, label_smoothing, z_loss)
    losses, statistics = _empty_losses(hidden, terms)
    for part, logits in _chunks(hidden, weight, chunk):
        losses[part], statistics[:, part] = _losses(logits, labels[part], terms)
    return losses, statistics


@_linear_cross_entropy.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    return _empty_losses(hidden, Terms(group, ignore_index, label_smoothing, z_loss))


def _empty_losses(hidden: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    losses = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
    return losses, losses.new_empty((terms.statistics, hidden.shape[0]))


@torch.library.custom_op("lyceum::linear_cross_entropy_backward", mutates_args=())
def _linear_cross_entropy_backward(
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    statistics: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    chunk: int,
    of_hidden: bool,
    of_weight: bool,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    terms = Terms(group, ignore_index, label_smoothing, z_loss)
    gradients = _Gradients(hidden, weight, of_hidden, of_weight)
    for part, logits in _chunks(hidden, weight, chunk):
        known = statistics[:, part].contiguous()
        _gradient(upstream[part], logits, labels[part], known, terms)
        gradients.add(part, logits)
    return gradients.result(wide)


@_linear_cross_entropy_backward.register_fake
def _(
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    statistics: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    chunk: int,
    of_hidden: bool,
    of_weight: bool,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    return _Gradients(hidden, weight, of_hidden, of_weight).result(wide)


@torch.library.custom_op("lyceum::linear_cross_entropy_summed", mutates_args=())
def _linear_cross_entropy_summed(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    hoped: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    chunk: int,
    of_hidden: bool,
    of_weight: bool,
    wide: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(the losses' sum, dhidden, dweight), both gradients for the upstream gradient `hoped`.

    The sum is fp32 []; where the loss is not plain, [2]: it, and that of the plain cross entropy.
    """
    terms = Terms(group, ignore_index, label_smoothing, z_loss)
    losses, statistics = _empty_losses(hidden, terms)
    gradients = _Gradients(hidden, weight, of_hidden, of_weight)
    for part, logits in _chunks(hidden, weight, chunk):
        losses[part], found = _losses_and_gradient(logits, labels[part], hoped, terms)
        statistics[2:, part] = found[2:]
        gradients.add(part, logits)
    total = losses.sum()
    if not terms.plain:
        total = torch.stack((total, statistics[2].sum()))
    return total, *gradients.result(wide)


@_linear_cross_entropy_summed.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    hoped: Tensor,
    group: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    chunk: int,
    of_hidden: bool,
    of_weight: bool,
    wide: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    plain = Terms(group, ignore_index, label_smoothing, z_loss).plain
    total = hidden.new_empty(() if plain else (2,), dtype=torch.float32)
    return total, *_Gradients(hidden, weight, of_hidden, of_weight).result(wide)


_NOTHING = (None,) * 7
"""The gradients (None) of the arguments after hidden states and weight."""


class _PerToken(torch.autograd.Function):
    """Losses and plain cross entropy a token; the backward pass recomputes the logits."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, wide: bool, *terms: Any
    ) -> tuple[Tensor, Tensor]:
        losses, statistics = _linear_cross_entropy(hidden, weight, labels, *terms)
        ctx.save_for_backward(hidden, weight, labels, statistics)
        ctx.terms, ctx.wide = terms, wide
        nats = losses.new_empty(0) if statistics.shape[0] == 2 else statistics[2].clone()
        _has_no_gradient(ctx, nats)
        return losses, nats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, upstream: Tensor | None, _nats: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return None, None, *_NOTHING
        wanted = ctx.needs_input_grad[:2]
        gradients = _linear_cross_entropy_backward(
            upstream, *ctx.saved_tensors, *ctx.terms, *wanted, ctx.wide
        )
        return *_wanted(gradients, wanted), *_NOTHING


def _has_no_gradient(ctx: Any, nats: Tensor) -> None:
    """Mark a function's second result, `nats`, as not differentiable."""
    ctx.mark_non_differentiable(nats)
    ctx.set_materialize_grads(False)


class _Summed(torch.autograd.Function):
    """Sums of losses and plain cross entropy; forward computes both gradients and saves them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        hoped: Tensor,
        wide: bool,
        *terms: Any,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[:2]
        total, *gradients = _linear_cross_entropy_summed(
            hidden, weight, labels, hoped, *terms, *wanted, wide
        )
        ctx.save_for_backward(*gradients, hoped)
        nats = total.new_empty(0)
        if total.dim():
            total, nats = total[0].clone(), total[1].clone()
        _has_no_gradient(ctx, nats)
        return total, nats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, upstream: Tensor | None, _nats: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return None, None, None, *_NOTHING
        *saved, hoped = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        gradients = _wanted([one.detach() for one in saved], wanted)
        for gradient in gradients:
            if gradient is not None:
                _corrected(gradient, upstream, hoped)
        return *gradients, None, *_NOTHING


def _wanted(
    gradients: list[Tensor] | tuple[Tensor, ...], wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    pairs = zip(gradients, wanted, strict=True)
    return tuple(gradient if needed else None for gradient, needed in pairs)


def _corrected(gradient: Tensor, upstream: Tensor, hoped: Tensor) -> None:
    """Scale the gradient in place by upstream / hoped, fp32 []; a GPU skips it where equal."""
    if use_triton(gradient):
        rescale_(gradient, upstream, hoped)
    else:
        gradient.mul_(torch.where(upstream == hoped, 1.0, upstream / hoped))


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    group: dist.ProcessGroup | None = None,
    *,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "sum",
    chunk: int | None = None,
    expected_gradient: Tensor | None = None,
) -> Tensor:
    """`cross_entropy` of hidden @ weight^T, in memory that doesn't grow with tokens * vocabulary.

    `hidden`: [..., hidden], fp32 or bf16, any strides, whole on every rank of `group`; `weight`:
    [vocab / group size, hidden], the same dtype, this rank's slice; `labels`, `ignore_index`,
    `label_smoothing`, `z_loss` and `reduction` as in `cross_entropy`, and the result too. Logits
    are rounded to the dtype, as a linear layer's would be. The gradient of `hidden` is what this
    rank's slice adds to it: the caller sums over the group. That of `weight` is summed in fp32 and
    returned in the weight's dtype, or as fp32 where the weight's `grad_dtype` says so.

    `chunk`: tokens whose logits exist at one time, by default as many as take 512 MiB; equal on all
    ranks. With "sum" gradients are computed in the forward pass, for the upstream gradient
    `expected_gradient` (0-dim fp32, not 0; by default 1); another upstream gradient costs a pass
    that rescales them, and a second backward pass raises RuntimeError.
    Raises ValueError for a wrong shape, dtype, device, label or number.
    """
    losses, _ = linear_cross_entropy_with_nats(
        *(hidden, weight, labels, group),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        reduction=reduction,
        chunk=chunk,
        expected_gradient=expected_gradient,
    )
    return losses


def linear_cross_entropy_with_nats(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    group: dist.ProcessGroup | None = None,
    *,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "sum",
    chunk: int | None = None,
    expected_gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(`linear_cross_entropy`, the same without label smoothing and z-loss, without gradient).

    Both fp32 of one shape.
    """
    shared = group_name(group)
    ranks = group.size() if group is not None and shared else 1
    _check(hidden, weight, chunk)
    check_labels(labels, "hidden", hidden, weight.shape[0] * ranks, ignore_index)
    check_terms(label_smoothing, z_loss, reduction, expected_gradient, hidden)
    rows, weight, flat_labels = _whole(rows_of(hidden)), _whole(weight), labels.reshape(-1)
    terms = Terms(shared, ignore_index, float(label_smoothing), float(z_loss))
    chunk = _default_chunk(weight) if chunk is None else chunk
    wide = _wide_gradient(weight)
    differentiated = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    if reduction == "sum" and differentiated:
        hoped = expected(expected_gradient, hidden)
        total, nats = _Summed.apply(rows, weight, flat_labels, hoped, wide, *terms, chunk)
        return total, total.detach() if terms.plain else nats
    losses, nats = _PerToken.apply(rows, weight, flat_labels, wide, *terms, chunk)
    nats = losses.detach() if terms.plain else nats
    if reduction == "sum":
        total = losses.sum()
        return total, total.detach() if terms.plain else nats.sum()
    return losses.view(labels.shape), nats.view(labels.shape)


def _whole(matrix: Tensor) -> Tensor:
    """The matrix; copied if there are gaps between its rows, as a product may read those."""
    dense = matrix.is_contiguous() or matrix.t().is_contiguous()
    return matrix if dense else matrix.contiguous()


def _default_chunk(weight: Tensor) -> int:
    tokens = CHUNK_BYTES // (weight.shape[0] * weight.element_size())
    return max(128, tokens // 128 * 128)


def _wide_gradient(weight: Tensor) -> bool:
    if torch.compiler.is_compiling() or not weight.is_leaf:
        return False
    return getattr(weight, "grad_dtype", None) == torch.float32


def _check(hidden: Tensor, weight: Tensor, chunk: int | None) -> None:
    check_dtype("hidden", hidden)
    check_dtype("weight", weight, (hidden.dtype,))
    check_device("weight", weight, "hidden", hidden)
    check(
        hidden.dim() > 0 and hidden.shape[-1] > 0,
        f"hidden: shape {list(hidden.shape)} has no channels in its last dimension",
    )
    check(
        weight.dim() == 2 and weight.shape[0] > 0,
        f"weight: shape {list(weight.shape)} should be [vocab, hidden]",
    )
    check_shape("weight", weight, (weight.shape[0], hidden.shape[-1]), "[vocab, hidden]")
    check(chunk is None or chunk > 0, f"chunk: {chunk} tokens; use 1 or more, or leave it out")
