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
    """`auto`: on a GPU the one measured fastest for the model's shapes, on the CPU sdpa; `flash`
    needs the package flash-attn."""
    deterministic: bool = True
    """Whether attention's backward pass may not use atomics; without it, a resumed run is not
    bitwise the same."""
    loss: Literal["auto", "fused", "logits"] = "auto"
    """`fused`: the output projection and the loss a chunk of tokens at a time, without the logits
    of all; `logits`: with them; `auto`: fused from 16,384 ids a rank on."""
