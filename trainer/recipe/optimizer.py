"""`optimizer` and `schedule`: how weights move."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.recipe.section import Count, Fraction, FrozenSequence, Positive, Section

_Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class OptimizerSection(Section):
    """AdamW with decoupled weight decay (arXiv:1711.05101)."""

    lr: Annotated[float, Field(gt=0.0)]
    """Learning rate at the schedule's peak."""
    betas: Annotated[tuple[_Beta, _Beta], FrozenSequence] = (0.9, 0.95)
    """Memory of the first and second moments."""
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Share of lr x weight taken off a weight each step."""
    decay_norms: bool = False
    """Whether the decay applies to norm weights."""
    decay_biases: bool = False
    """Whether the decay applies to biases."""
    decay_embeddings: bool = False
    """Whether the decay applies to the embedding."""
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    """The gradient's global norm is scaled down to this; 0: never."""


class ScheduleSection(Section):
    """The learning rate over the steps, as shares of optimizer.lr."""

    name: Literal["cosine", "wsd", "constant"] = "cosine"
    """Shape after the warmup: cosine, warmup-stable-decay, or constant."""
    warmup: Count = 0
    """Steps of linear rise from zero."""
    decay: Positive | None = None
    """wsd: steps of the final linear fall; none: a fifth of the length."""
    floor: Fraction = 0.1
    """Share of lr that is left at the end."""
    length: Positive | None = None
    """Steps the shape is drawn over; none: the recipe's steps."""
