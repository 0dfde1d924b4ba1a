"""One optimizer step's forward and backward passes, by one code path for every layout."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from trainer.parallel.layout import Layout
from trainer.parallel.megatron import HiddenStatesModel, embedding_group
from trainer.parallel.sharding import sharded_parameters

_T = TypeVar("_T")


@dataclass(frozen=True)
class MicroBatches(Generic[_T]):
    """The input of a schedule: `count` micro-batches of `rows` sequences each.

    `items` yields them once, in order; `length`: tokens of a sequence, over all context ranks.
    """

    items: Iterable[_T]
    count: int
    rows: int
    length: int


@dataclass(frozen=True)
class Losses:
    """A global batch's metrics, equal on all ranks; fp32 [] on the device.

    `mean`: nats a supervised token (in preference tuning: a pair); `figures`: other metrics of the
    step by name, means already. A figure is NaN where there was nothing to average.
    """

    mean: Tensor
    figures: dict[str, Tensor] = field(default_factory=dict)


def forward_backward(
    forward_step: Callable[..., Any],
    micro_batches: MicroBatches[Any],
    chunks: Sequence[HiddenStatesModel],
    *,
    forward_only: bool,
) -> list[dict[str, Tensor]]:
    """Run the micro-batches through megatron-core's schedule for this layout.

    `forward_step(iterator, chunk)` returns the chunk's output for the iterator's next micro-batch,
    and a loss function of that output. The loss function returns (the loss to differentiate [], a
    token count int32 [], metrics by name). Returns each micro-batch's metrics; an empty list on
    every pipeline stage but the last.
    """
    several = len(chunks) > 1
    # Several chunks read the same micro-batches; one chunk lets each be freed after its use.
    items = list(micro_batches.items) if several else micro_batches.items
    reports: list[dict[str, Tensor]] = get_forward_backward_func()(
        forward_step_func=forward_step,
        data_iterator=[iter(items) for _ in chunks] if several else iter(items),
        model=chunks if several else chunks[0],
        num_microbatches=micro_batches.count,
        seq_length=micro_batches.length,
        micro_batch_size=micro_batches.rows,
        forward_only=forward_only,
    )
    return reports


def run_schedule(
    forward_step: Callable[..., Any],
    micro_batches: MicroBatches[Any],
    chunks: Sequence[HiddenStatesModel],
    layout: Layout,
    *,
    figures: Sequence[str] = (),
    forward_only: bool = False,
) -> dict[str, Tensor]:
    """Run this rank's micro-batches; returns the global batch's sums of "loss" and the `figures`.

    Sums are fp32 [] and equal on all ranks; `forward_step`'s loss function reports them by name for
    its micro-batch. With `forward_only` no gradients are computed. Collective.
    """
    reports = forward_backward(forward_step, micro_batches, chunks, forward_only=forward_only)
    names = ("loss", *figures)
    totals = torch.zeros(len(names), device=layout.device)
    for report in reports:
        totals += torch.stack([report[name].float() for name in names])
    # Stages before the last report nothing, so a sum over the pipeline is the last stage's total.
    for axis in (layout.replicas, layout.pipeline):
        if axis.size > 1:
            dist.all_reduce(totals, group=axis.group)
    return dict(zip(names, totals.unbind(), strict=True))


def finalize_gradients(chunks: Sequence[HiddenStatesModel], layout: Layout, losses: Losses) -> None:
    """All-reduce partial gradients in place: replicated weights over tensor ranks, tied embeddings.

    A gradient is partial where its weight saw only this rank's slice of the sequence (norms under
    sequence parallelism) or of the heads (query and key norms). Tied embeddings have one copy on
    the first stage and one on the last. A non-finite loss makes a gradient non-finite too: the
    optimizer then skips the step on all ranks, since all see the same global norm. Collective.
    """
    gradients = (p.grad for chunk in chunks for p in chunk.parameters())
    # A stage whose weights are all frozen has none; the others' make the norm non-finite.
    first = next((gradient for gradient in gradients if gradient is not None), None)
    if first is not None:
        # Adds 0, or NaN where the loss is not finite, and the host need not know which.
        first[(0,) * first.dim()].add_(losses.mean * 0.0)
    if layout.tensor.size > 1:
        partial = [
            parameter.grad
            for parameter, sharding in sharded_parameters(chunks)
            if sharding.gradient_is_partial and parameter.grad is not None
        ]
        _sum_together(partial, layout.tensor.group)
    group = embedding_group()
    if layout.pipeline.size > 1 and group is not None:
        for chunk in chunks:
            if chunk.share_embeddings_and_output_weights and (
                chunk.pre_process or chunk.post_process
            ):
                weight = chunk.shared_embedding_or_output_weight()
                if weight.requires_grad:
                    dist.all_reduce(weight.grad, group=group)


def _sum_together(gradients: list[Tensor], group: dist.ProcessGroup) -> None:
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat, group=group)
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()
