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
    read_every: Positive = 1
    """Steps whose numbers are read from a GPU together. The step in flight is never waited for, so
    that metrics come a step late; above 1, the host may run as many steps further ahead."""


class ProfileSection(Section):
    """When the profiler records."""

    steps: Annotated[tuple[Positive, Positive], FrozenSequence] | None = None
    """First and last step of a Chrome trace, both included; none: no trace."""
    waits: bool = False
    """Whether RUN/waits.json is to say where the host waited for the device."""


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
    compile: Literal["none", "layer"] = "none"
    """`layer`: training passes run each transformer layer through torch.compile, our kernels inside
    it; compiled once a shape and cached. What it compiles is as repeatable as `deterministic` says,
    and `attention: auto` is then never flash. The default waits for a GPU to show which of the two
    is faster: on none has it been measured yet."""
