"""RUN/tensorboard: the records as curves, the samples as text."""

import math
from contextlib import suppress
from typing import Any

from trainer.errors import RecipeError, TrainingError
from trainer.observe.callback import Callback, RunStart


class TensorBoard(Callback):
    """Writes TensorBoard events; on resume, those after the checkpoint are hidden from the curves.

    Raises RecipeError at the start where tensorboard is not installed.
    """

    def __init__(self) -> None:
        self._writer: Any = None

    def on_start(self, run: RunStart) -> None:
        """Open the event file."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise RecipeError(
                "tensorboard is not installed; install it or set observe.tensorboard=false"
            ) from None
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.first_step)

    def on_step(self, record: dict[str, Any]) -> None:
        """A point for every number of the record."""
        try:
            for name, value in numbers(record).items():
                named = name if "/" in name else f"train/{name}"
                self._writer.add_scalar(named, value, record["step"])
        except OSError as error:  # raised here by the writer's thread
            raise TrainingError(f"tensorboard/ cannot be written: {error.strerror}") from None

    def on_sample(self, step: int, prompt: str, text: str) -> None:
        """The sample as text (in Markdown, a quotation as code)."""
        indented = "\n".join(f"    {line}" for line in (prompt + text).splitlines())
        self._writer.add_text(f"sample/{prompt[:40]}", indented, step)

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Close the event file."""
        if self._writer is not None:
            with suppress(OSError):  # a full disk has been reported already
                self._writer.close()


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of a record but its step; `skipped` as 0 or 1."""
    return {
        name: float(value)
        for name, value in record.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }
