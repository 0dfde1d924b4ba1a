"""`observe` and `profile`: what watches a run."""

from typing import Annotated

from trainer.recipe.section import FrozenSequence, Positive, Section


class ObserveSection(Section):
    """Where a run's numbers go besides metrics.jsonl."""

    tensorboard: bool = True
    """Whether TensorBoard events are written."""
    wandb: str | None = None
    """Weights & Biases project; none: not used."""
    log_every: Positive = 1
    """Steps between progress lines."""
    read_every: Positive = 1
    """Steps whose numbers are read from a GPU together. The step in flight is never waited for, so
    that metrics come a step late; above 1, the host may run as many steps further ahead."""


class ProfileSection(Section):
    """When the profiler records."""

    steps: Annotated[tuple[Positive, Positive], FrozenSequence] | None = None
    """First and last step of a Chrome trace, both included; none: no trace."""
    waits: bool = False
    """Whether RUN/waits.json is to say where the host waited for the device."""
