"""`checkpoint` and `recovery`: what is kept, and when to give up."""

from typing import Annotated

from pydantic import Field

from trainer.recipe.section import Count, Fraction, Names, Positive, Section


class CheckpointSection(Section):
    """When checkpoints are written and how many stay."""

    every: Count = 0
    """Steps between checkpoints; 0: only at the end and on a stop."""
    keep: Count = 3
    """The newest that stay; 0: all."""
    save_final: bool = True
    """Whether the last step is saved."""


class RecoverySection(Section):
    """What happens when a loss or a gradient is not finite."""

    skipped_in_a_row: Positive = 5
    """Steps skipped one after another that end the run with exit code 4."""


class EvaluateSection(Section):
    """Validation loss and sample text at intervals."""

    every: Count = 0
    """Steps between validation losses; 0: none while training."""
    sequences: Positive = 64
    """Packed validation sequences that the loss is taken over."""
    sample_every: Count = 0
    """Steps between sample texts; 0: none while training."""
    prompts: Names = ()
    """What the sample texts begin with."""
    sample_tokens: Positive = 64
    """Tokens a sample text has at most."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.8
    """Divides the logits before sampling; 0: always the likeliest token."""
    top_k: Count = 0
    """Only the k likeliest tokens are sampled; 0: all."""
    top_p: Fraction = 1.0
    """Only the likeliest tokens that together have this probability are sampled."""
