"""`observe`, `profile` and `kernels`: what watches a run, and which operators it runs on."""

from typing import Annotated, Literal

from trainer.recipe.section import FrozenSequence, Positive, Section


class ObserveSection(Section):
    """Where a run's numbers go besides metrics.jsonl."""

    tensorboard: bool = True
    """Whether TensorBoard events are written."""
    wandb: str | None = None
    """Weights & Biases project; none: not used."""
    log_every: Positive = 1
    """Steps between progress lines."""


class ProfileSection(Section):
    """When the profiler records."""

    steps: Annotated[tuple[Positive, Positive], FrozenSequence] | None = None
    """First and last step of a Chrome trace, both included; none: no trace."""


class KernelsSection(Section):
    """Which implementation of an operator runs."""

    attention: Literal["auto", "reference", "sdpa", "triton", "flash"] = "auto"
    """`auto` takes the fastest one that the device has."""
