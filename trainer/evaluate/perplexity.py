"""The loss on held-out text: nats a token, perplexity, and bits a byte."""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist

from trainer.data.batch import IGNORE
from trainer.data.loader import validation_batches
from trainer.model.passes import NextToken
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.parallel.megatron import evaluating
from trainer.recipe import Recipe
from trainer.sources import Sources


@dataclass(frozen=True)
class ValidationLoss:
    """The mean loss in `nats` a token over `tokens` predicted tokens."""

    nats: float
    tokens: int


@torch.no_grad()
def validation_loss(
    chunks: list[LanguageModel], recipe: Recipe, layout: Layout, sources: Sources
) -> ValidationLoss:
    """The loss over the recipe's first `evaluate.sequences` validation sequences.

    Of preference pairs only the chosen answers count. Collective; equal on every rank, and at every
    layout up to rounding. Raises DataError where the corpora are damaged.
    """
    # Whole micro-batches for every rank, in the multiples that an interleaved pipeline takes.
    rank_rows = recipe.batch.micro * layout.pipeline.size
    rows = range(layout.data.rank * rank_rows, (layout.data.rank + 1) * rank_rows)
    passes = NextToken(chunks, recipe, layout)
    total, tokens = 0.0, 0
    with evaluating(chunks):
        for batch in validation_batches(
            sources.stream_arguments(recipe),
            recipe.evaluate.sequences,
            layout.data.size * rank_rows,
            rows,
        ):
            batch = batch.first_answers()
            supervised = torch.tensor(float(batch.supervised), device=layout.device).double()
            dist.all_reduce(supervised, group=layout.data.group)
            losses = passes.run(batch, supervised.float(), forward_only=True)
            total += float(losses.mean) * float(supervised)
            tokens += int(supervised)
    return ValidationLoss(total / max(tokens, 1), tokens)


def validation_bytes(recipe: Recipe, sources: Sources) -> int:
    """UTF-8 bytes of the text that `validation_loss` predicts; end-of-text tokens count 0.

    A character split between two pieces of a long document counts as U+FFFD, 3 bytes, twice.
    """
    count, tokenizer = 0, sources.tokenizer
    arguments = sources.stream_arguments(recipe)
    for batch in validation_batches(arguments, recipe.evaluate.sequences, 1, range(1)):
        batch = batch.first_answers()
        labels, positions = batch.labels[0], batch.position_ids[0]
        starts = torch.nonzero(positions == 0).flatten().tolist()
        for first, last in zip(starts, [*starts[1:], len(labels)], strict=True):
            piece = labels[first:last]
            predicted = piece[(piece != IGNORE) & (piece != tokenizer.end_of_text)]
            count += len(tokenizer.decode(predicted.tolist()).encode())
    return count


@dataclass(frozen=True)
class Perplexity:
    """The suite's figures: `nats` and `perplexity` a token, `bits_per_byte` of UTF-8 text."""

    nats: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes: int

    @classmethod
    def of(cls, loss: ValidationLoss, text_bytes: int) -> "Perplexity":
        """The figures from a validation loss and the UTF-8 bytes of its text."""
        bits = loss.nats * loss.tokens / math.log(2)
        return cls(
            nats=loss.nats,
            perplexity=math.exp(loss.nats),
            bits_per_byte=bits / max(text_bytes, 1),
            tokens=loss.tokens,
            bytes=text_bytes,
        )
