"""RUN/status.json: the state of a run, for schedulers and scripts that may lose an exit code."""

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from trainer.errors import StopRequested, TrainingError
from trainer.observe.callback import Callback, RunStart
from trainer.recovery.afterword import leave_afterword
from trainer.recovery.lock import LAUNCHER
from trainer.recovery.status_file import read_status, status_of, write_status
from trainer.recovery.torchrun import under_torchrun

_log = logging.getLogger(__name__)

__all__ = ["StatusWriter", "read_status"]

_EXIT_CODES = {"done": 0, "stopped": StopRequested.exit_code, "failed": TrainingError.exit_code}
_SECONDS_BETWEEN = 1.0


class StatusWriter(Callback):
    """Writes RUN/status.json: always a whole file, updated at most once a second while running.

    Its keys: `trainer.recovery.status_file.status_of`. `measuring` ("validation loss" or a suite
    and how far it is, null while nothing is measured) is written as soon as it begins or ends. The
    last word is the launcher's, where there is one of ours; a run whose launcher was killed stays
    "running", which its next start says. A status that cannot be written is only logged, so that it
    hides no other failure.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._step = 0
        self._written = 0.0
        self._measuring: str | None = None
        self._checkpoint: str | None = None
        self._goodput: Callable[[], dict[str, Any] | None] | None = None
        self._replicas: int | None = None
        self._nodes_change = False

    def on_start(self, run: RunStart) -> None:
        """Write the state running."""
        self._folder, self._step = run.folder, run.first_step - 1
        self._checkpoint, self._goodput = run.checkpoint, run.goodput
        self._replicas = run.recipe.data_parallel(run.world_size)
        elastic = run.recipe.recovery.minimum_replicas is not None
        self._nodes_change = elastic and under_torchrun()
        if self._goodput is None and (known := read_status(run.folder)):
            self._goodput = partial(known.get, "goodput")  # of the starts before
        self._write("running", None, None)

    def on_step(self, record: dict[str, Any]) -> None:
        """Write the step reached, at most once a second."""
        self._reach(record["step"], None, at_once=False)

    def on_validate(self, step: int) -> None:
        """Write that the validation loss is taken."""
        self._reach(step, "validation loss", at_once=True)

    def on_evaluate(self, step: int, values: dict[str, float]) -> None:
        """Write that it is there."""
        self._reach(step, None, at_once=self._measuring is not None)

    def on_advance(self, step: int, suite: str, done: int, items: int) -> None:
        """Write how far a suite is: when it begins and ends, else at most once a second."""
        begins = self._measuring is None or not self._measuring.startswith(f"{suite} ")
        measuring = f"{suite} {done}/{items}" if done < items else None
        self._reach(step, measuring, at_once=begins or measuring is None)

    def _reach(self, step: int, measuring: str | None, at_once: bool) -> None:
        # A step's record comes when what is measured after it has been.
        self._step, self._measuring = max(self._step, step), measuring
        if at_once or time.monotonic() - self._written >= _SECONDS_BETWEEN:
            self._write("running", None, None)

    def on_good(self, path: Path) -> None:
        """Write which checkpoint is the last good one."""
        self._checkpoint = path.name
        self._write("running", None, None)

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Write the final state, unless a launcher waits for all ranks' ends and writes it, or
        torchrun, which may have stopped the run as its nodes change, may begin it again.
        """
        self._measuring = None
        if state == "running" or LAUNCHER in os.environ:
            self._write("running", None, None)  # as far as it came
            return
        if state == "stopped" and self._nodes_change:
            self._write("running", None, reason)
            leave_afterword(self._folder)
            return
        self._write(state, _EXIT_CODES[state] if exit_code is None else exit_code, reason)

    def _write(self, state: str, exit_code: int | None, reason: str | None) -> None:
        status = status_of(
            state,
            self._step,
            measuring=self._measuring,
            exit_code=exit_code,
            reason=reason,
            checkpoint=self._checkpoint,
            replicas=self._replicas,
            goodput=self._goodput() if self._goodput else None,
        )
        try:
            write_status(self._folder, status)
        except TrainingError as error:
            _log.warning("%s", error)
        self._written = time.monotonic()
