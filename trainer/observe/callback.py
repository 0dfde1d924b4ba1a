"""The interface of callbacks: the events of the training loop."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from trainer.recipe import Recipe


@dataclass(frozen=True)
class RunStart:
    """The run as it starts.

    `folder`: the run directory; `first_step`: the next step, from 1 (on resume, the one after the
    checkpoint); `rank`, `world_size`: of this process among all ranks; `checkpoint`: the name of
    the last good one; `goodput`: what status.json has of the run's time (trainer.recovery.goodput).
    """

    folder: Path
    recipe: "Recipe"
    first_step: int
    rank: int
    world_size: int
    device: torch.device
    checkpoint: str | None = None
    goodput: Callable[[], dict[str, Any]] | None = None


class Callback:
    """Hooks that do nothing: override those of interest. The loop calls them in one process."""

    def on_start(self, run: RunStart) -> None:
        """Called before the first step."""

    def on_step(self, record: dict[str, Any]) -> None:
        """Called after each step, also a skipped one, with its record (as in metrics.jsonl)."""

    def on_evaluate(self, step: int, values: dict[str, float]) -> None:
        """Called after an evaluation, with `eval/NAME` values; the step's record has them too."""

    def on_amend(self, step: int, values: dict[str, float]) -> None:
        """Called with values of an evaluation that belong to the record of an earlier `on_step`."""

    def on_validate(self, step: int) -> None:
        """Called before the validation loss after this step is taken."""

    def on_advance(self, step: int, suite: str, done: int, items: int) -> None:
        """Called while a suite is measured after this step: so many of its items are done."""

    def on_sample(self, step: int, prompt: str, text: str) -> None:
        """Called after sampling, with a prompt and the model's continuation."""

    def on_checkpoint(self, step: int, path: Path, seconds: float) -> None:
        """Called after a checkpoint is complete; `seconds`: the time that saving took."""

    def on_good(self, path: Path) -> None:
        """Called when a checkpoint counts as good: a resume would go on from it."""

    def on_conclude(self) -> None:
        """Called behind the last step: what still cannot be written is an error now."""

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Called at the end. `state`: done, stopped or failed; `exit_code` None: the state's."""
