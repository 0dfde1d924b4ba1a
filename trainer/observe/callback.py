"""What the loop tells whoever watches it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from trainer.recipe import Recipe


@dataclass(frozen=True)
class RunStart:
    """What is known when training starts.

    `folder`: the run directory. `first_step`: the first step to come, from 1 (the step after the
    checkpoint, on resume). `rank`, `world_size`: of this process, over all ranks.
    """

    folder: Path
    recipe: "Recipe"
    first_step: int
    rank: int
    world_size: int
    device: torch.device


class Callback:
    """Hooks that do nothing: override those of interest. The loop calls them in one process."""

    def on_start(self, run: RunStart) -> None:
        """Before the first step."""

    def on_step(self, record: dict[str, Any]) -> None:
        """After each step, skipped ones too, with its line of metrics.jsonl (and `eval/NAME`)."""

    def on_evaluate(self, step: int, values: dict[str, float]) -> None:
        """After an evaluation, with `eval/NAME` and its value; `on_step` tells them too."""

    def on_sample(self, step: int, prompt: str, text: str) -> None:
        """After a sample: the prompt, and what the model wrote after it."""

    def on_checkpoint(self, step: int, path: Path, seconds: float) -> None:
        """After a checkpoint is complete."""

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """At the end. `state`: done, stopped or failed; `exit_code` None: that of the state."""
