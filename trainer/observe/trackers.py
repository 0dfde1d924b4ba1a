"""Experiment trackers: TensorBoard (RUN/tensorboard) and Weights & Biases."""

import logging
import math
from contextlib import suppress
from typing import Any

from trainer.addresses import redacted_values
from trainer.errors import RecipeError
from trainer.observe.callback import Callback, RunStart

_log = logging.getLogger(__name__)

EVALUATED_STEP = "evaluated_step"
"""The axis of `eval/` figures in Weights & Biases: they may be sent after the steps that follow."""


class TensorBoard(Callback):
    """Writes TensorBoard events; on resume, events after the checkpoint are hidden from the curves.

    `on_start` raises RecipeError where tensorboard is not installed.
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
        """Add a point for every number of the record; on a full disk the curves end."""
        if self._writer is None:
            return
        try:
            for name, value in numbers(record).items():
                named = name if "/" in name else f"train/{name}"
                self._writer.add_scalar(named, value, record["step"])
            if _evaluated(record):  # rare and dear: not left to the two minutes of the writer
                self._writer.flush()
        except OSError as error:  # raised here by the writer's thread, which has ended with it
            _log.warning(
                "tensorboard/ cannot be written: %s; its curves end at step %d, training goes on",
                *(error.strerror, record["step"]),
            )
            self._close()

    def on_amend(self, step: int, values: dict[str, float]) -> None:
        """Add a point for each value."""
        self.on_step({"step": step, **values})

    def on_sample(self, step: int, prompt: str, text: str) -> None:
        """Add the sample as text, a Markdown code block."""
        if self._writer is None:
            return
        indented = "\n".join(f"    {line}" for line in (prompt + text).splitlines())
        self._writer.add_text(f"sample/{prompt[:40]}", indented, step)

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Close the event file."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            with suppress(OSError):  # a full disk has been reported already
                self._writer.close()
            self._writer = None


def _evaluated(record: dict[str, Any]) -> bool:
    return any(name.startswith("eval/") for name in record)


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of a record, without its step; `skipped` as 0 or 1."""
    return {
        name: float(value)
        for name, value in record.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }


class WeightsAndBiases(Callback):
    """Sends the records to a Weights & Biases project; a resumed run continues its own curve.

    Raises RecipeError where wandb is not installed.
    """

    def __init__(self, project: str) -> None:
        try:
            import wandb
        except ImportError:
            raise RecipeError(
                f"observe.wandb={project}: wandb is not installed; pip install wandb, or leave "
                "observe.wandb out"
            ) from None
        self._wandb: Any = wandb
        self._project = project
        self._session: Any = None

    def on_start(self, run: RunStart) -> None:
        """Start or resume the session, named as the run directory."""
        name = run.folder.resolve().name
        self._session = self._wandb.init(
            project=self._project,
            name=name,
            id=name,
            resume="allow",
            dir=str(run.folder),
            config=redacted_values(run.recipe.model_dump(mode="json")),
        )
        self._session.define_metric("eval/*", step_metric=EVALUATED_STEP)

    def on_step(self, record: dict[str, Any]) -> None:
        """Send the numbers of the record."""
        axis = {EVALUATED_STEP: record["step"]} if _evaluated(record) else {}
        self._session.log(numbers(record) | axis, step=record["step"])

    def on_amend(self, step: int, values: dict[str, float]) -> None:
        """Send the values, whose axis says the step."""
        # A resumed session drops, with a warning, what is sent for a step that it has passed.
        self._session.log(numbers(values) | {EVALUATED_STEP: step}, commit=False)

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Finish the session, with an exit code other than 0 unless the run is done."""
        if self._session is not None:
            self._session.finish(exit_code=0 if state in ("done", "running") else exit_code or 1)
