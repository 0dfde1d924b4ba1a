"""How well a model predicts held-out text: nats a token, perplexity, and bits a byte."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.data.batch import IGNORE, Batch
from trainer.data.loader import validation_batches
from trainer.data.stream import stream_arguments
from trainer.data.tokenizer import Tokenizer
from trainer.model.sequence import SequenceLayout, context_slice, rope_frequencies
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import run_schedule
from trainer.recipe import Recipe


@dataclass(frozen=True)
class ValidationLoss:
    """`nats` a token, the mean over `tokens` predicted tokens."""

    nats: float
    tokens: int


@torch.no_grad()
def validation_loss(
    chunks: list[Any], recipe: Recipe, layout: Layout, folders: Sequence[Path]
) -> ValidationLoss:
    """The loss over the recipe's first `evaluate.sequences` validation sequences.

    Collective; the same on every rank, and at every layout but for rounding. Raises DataError where
    the corpora are damaged.
    """
    # Whole micro-batches for every rank, in the multiples that an interleaved pipeline takes.
    share = recipe.batch.micro * layout.pipeline.size
    rows = range(layout.data.rank * share, (layout.data.rank + 1) * share)
    total, tokens = 0.0, 0
    training = [chunk.training for chunk in chunks]
    for chunk in chunks:
        chunk.eval()
    for batch in validation_batches(
        stream_arguments(recipe, folders),
        recipe.evaluate.sequences,
        layout.data.size * share,
        rows,
    ):
        supervised = (batch.labels != IGNORE).sum().to(device=layout.device, dtype=torch.float64)
        dist.all_reduce(supervised, group=layout.data.group)
        total += _mean_loss(chunks, recipe, layout, batch, supervised) * float(supervised)
        tokens += int(supervised)
    for chunk, before in zip(chunks, training, strict=True):
        chunk.train(before)
    return ValidationLoss(total / max(tokens, 1), tokens)


def _mean_loss(
    chunks: list[Any], recipe: Recipe, layout: Layout, batch: Batch, supervised: Tensor
) -> float:
    context, micro = layout.context, recipe.batch.micro
    frequencies = rope_frequencies(recipe).to(layout.device)
    length = batch.tokens.shape[1]
    places = context_slice(length, context.rank, context.size).to(layout.device)
    tensors = [batch.tokens, batch.labels, batch.position_ids]
    tokens, labels, positions = (tensor.to(layout.device) for tensor in tensors)
    parts = []
    for first in range(0, len(tokens), micro):
        rows = slice(first, first + micro)
        whole = SequenceLayout.whole(positions[rows], frequencies, context.rank, context.size)
        parts.append((tokens[rows][:, places], labels[rows][:, places], whole))
    losses = run_schedule(
        chunks,
        _forward_step,
        lambda: iter(parts),
        supervised.float(),
        layout,
        count=len(parts),
        sequence_length=length,
        micro_batch=micro,
        forward_only=True,
    )
    return float(losses.mean)


def _forward_step(
    parts: Iterator[tuple[Tensor, Tensor, SequenceLayout]], chunk: Any
) -> tuple[Tensor, Any]:
    tokens, labels, layout = next(parts)
    return chunk(tokens, layout, labels), _report


def _report(losses: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    total = losses.sum()
    return total, torch.ones((), dtype=torch.int), {"loss_sum": total}


def validation_bytes(recipe: Recipe, folders: Sequence[Path], tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of the text that `validation_loss` predicts; an end of text has none.

    A character that is cut between two pieces of a long document counts as U+FFFD, 3 bytes, twice.
    """
    count = 0
    arguments = stream_arguments(recipe, folders)
    for batch in validation_batches(arguments, recipe.evaluate.sequences, 1, range(1)):
        labels, positions = batch.labels[0], batch.position_ids[0]
        starts = torch.nonzero(positions == 0).flatten().tolist()
        for first, last in zip(starts, [*starts[1:], len(labels)], strict=True):
            piece = labels[first:last]
            kept = piece[(piece != IGNORE) & (piece != tokenizer.end_of_text)]
            count += len(tokenizer.decode(kept.tolist()).encode())
    return count


@dataclass(frozen=True)
class Perplexity:
    """The suite's figures: `nats` and `perplexity` a token, `bits_per_byte` of text."""

    nats: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes: int

    @classmethod
    def of(cls, loss: ValidationLoss, text_bytes: int) -> "Perplexity":
        """From a validation loss and the bytes of the text that it was taken over."""
        bits = loss.nats * loss.tokens / math.log(2)
        return cls(
            nats=loss.nats,
            perplexity=math.exp(loss.nats),
            bits_per_byte=bits / max(text_bytes, 1),
            tokens=loss.tokens,
            bytes=text_bytes,
        )
