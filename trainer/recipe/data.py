"""`data`: which corpora are read, and how they become batches."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.recipe.section import Count, FrozenSequence, Positive, Section


class MixtureSource(Section):
    """One corpus of the mixture."""

    corpus: str
    """The corpus folder."""
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    """Its share of the sequences, relative to the other sources."""


class DataSection(Section):
    """The stream of packed sequences."""

    mixture: Annotated[tuple[MixtureSource, ...], FrozenSequence] = ()
    """Corpora to read; empty: the one of the recipe's own `corpus` section."""
    packing: Literal["best_fit", "none"] = "best_fit"
    """How documents fill a sequence: several by best fit, or one a sequence."""
    block_shards: Positive = 8
    """Consecutive shards whose documents are shuffled and packed together."""
    workers: Count = 1
    """Processes a rank that assemble batches; 0: the training process does."""
    prefetch: Positive = 2
    """Batches each worker keeps ready."""
