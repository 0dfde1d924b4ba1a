"""The loss on held-out text: nats a token."""

from dataclasses import dataclass

import torch
import torch.distributed as dist

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
