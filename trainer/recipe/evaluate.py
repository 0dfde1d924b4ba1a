"""`evaluate`: what is measured while training."""

from typing import Annotated

from pydantic import Field

from trainer.recipe.section import Count, Names, Positive, Section, Share


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
    top_p: Share = 1.0
    """Only the likeliest tokens that together have this probability are sampled."""
