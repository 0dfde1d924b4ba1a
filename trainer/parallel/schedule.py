"""One optimizer step's forward and backward passes, at every layout, in one way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.parallel.layout import Layout
from trainer.parallel.megatron import embedding_group, forward_backward


@dataclass(frozen=True)
class Losses:
    """What a global batch measured, equal on all ranks; tensors, so that reading them is a choice.

    `mean`: nats a supervised token over the whole global batch (of a preference: a pair); `figures`
    are means over the same, by name.
    """

    mean: Tensor
    figures: dict[str, Tensor] = field(default_factory=dict)


def run_schedule(
    chunks: list[Any],
    forward_step: Callable[..., Any],
    micro_batches: Callable[[], Iterator[Any]],
    weight: Tensor,
    layout: Layout,
    *,
    count: int,
    sequence_length: int,
    micro_batch: int,
    forward_only: bool = False,
    figures: Sequence[str] = (),
) -> Losses:
    """Run `count` micro-batches of this rank; with `forward_only` no gradients are made.

    `forward_step` reports {"loss": its micro-batch's sum over what `weight` counts in the global
    batch}, and so each of the `figures`.
    """
    reports = forward_backward(
        forward_step,
        micro_batches,
        chunks,
        count=count,
        sequence_length=sequence_length,
        micro_batch=micro_batch,
        forward_only=forward_only,
    )
    names = ("loss", *figures)
    totals = torch.zeros(len(names), device=layout.device)
    for report in reports:
        totals += torch.stack([report[name].float() for name in names])
    # Stages before the last report nothing, so a sum over the pipeline is the last stage's total.
    for axis in (layout.replicas, layout.pipeline):
        if axis.size > 1:
            dist.all_reduce(totals, group=axis.group)
    means = dict(zip(names, totals / weight.clamp(min=1), strict=True))
    return Losses(mean=means.pop("loss"), figures=means)


def finalize_gradients(chunks: list[Any], layout: Layout, losses: Losses) -> None:
    """Add up what backward left in parts: replicated weights over tensor ranks, tied embeddings.

    A weight marked `sums_over_tensor_ranks` saw only this rank's share of the sequence (norms under
    sequence parallelism) or of the heads (query and key norms). Tied embeddings have one copy on
    the first stage and one on the last. A loss that is not finite makes a gradient so too: the
    optimizer then skips the step on all ranks, which all see the one global norm.
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
            for chunk in chunks
            for parameter in chunk.parameters()
            if getattr(parameter, "sums_over_tensor_ranks", False) and parameter.grad is not None
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
