"""Next-token prediction: micro-batches and the loss, shared by pre-training and fine-tuning."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.cross_entropy import IGNORE
from trainer.data.batch import Batch
from trainer.model.sequence import SequenceLayout, context_slice, rope_frequencies
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import Losses, run_schedule
from trainer.recipe import Recipe


@dataclass(frozen=True)
class MicroBatch:
    """This rank's share of a micro-batch: `tokens`, `labels` int64 [batch, sequence / context]."""

    tokens: Tensor
    labels: Tensor
    layout: SequenceLayout


class NextToken:
    """Runs batches through the model's schedule, with the loss a supervised token (D9)."""

    def __init__(self, chunks: list[Any], recipe: Recipe, layout: Layout) -> None:
        self._chunks = chunks
        self._layout = layout
        self._micro = recipe.batch.micro
        self._frequencies = rope_frequencies(recipe).to(layout.device)
        places = context_slice(recipe.sequence_length, layout.context.rank, layout.context.size)
        self._places = places.to(layout.device)

    def run(self, batch: Batch, supervised: Tensor, *, forward_only: bool = False) -> Losses:
        """Forward, and unless `forward_only` backward, of this rank's rows of a global batch.

        `supervised`: how many tokens of the *global* batch have a label.
        """
        # Gradients are averaged over replicas afterwards; this undoes that division.
        scale = self._layout.replicas.size / supervised.clamp(min=1)
        micro_batches = list(self._split(batch, scale))
        step = partial(_forward_step, _loss(scale))
        return run_schedule(
            self._chunks,
            step,
            lambda: iter(micro_batches),
            supervised,
            self._layout,
            count=len(micro_batches),
            sequence_length=batch.tokens.shape[1],
            micro_batch=self._micro,
            forward_only=forward_only,
        )

    def _split(self, batch: Batch, scale: Tensor) -> Iterator[MicroBatch]:
        device, context = self._layout.device, self._layout.context
        tensors = [batch.tokens, batch.labels, batch.position_ids]
        tokens, labels, positions = (t.to(device, non_blocking=True) for t in tensors)
        for start in range(0, tokens.shape[0], self._micro):
            rows = slice(start, start + self._micro)
            layout = SequenceLayout.whole(
                positions[rows], self._frequencies, context.rank, context.size
            )
            layout.expected_gradient = scale
            yield MicroBatch(tokens[rows][:, self._places], labels[rows][:, self._places], layout)


def _loss(scale: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]:
    tokens = torch.ones((), dtype=torch.int)

    def loss(total: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return total * scale, tokens, {"loss_sum": total.detach()}

    return loss


def _forward_step(
    loss: Callable[..., Any], micro_batches: Iterator[MicroBatch], chunk: Any
) -> tuple[Tensor, Callable[..., Any]]:
    micro = next(micro_batches)
    return chunk(micro.tokens, micro.layout, micro.labels, reduction="sum"), loss


def supervised_in(batch: Batch) -> int:
    """How many tokens of these rows have a label."""
    return int((batch.labels != IGNORE).sum())
