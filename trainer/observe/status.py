"""RUN/status.json: the state of a run, for schedulers and scripts that may lose an exit code."""

import json
import logging
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.errors import StopRequested, TrainingError
from trainer.files import write_whole
from trainer.observe.callback import Callback, RunStart

_log = logging.getLogger(__name__)

STATUS = "status.json"

_EXIT_CODES = {"done": 0, "stopped": StopRequested.exit_code, "failed": TrainingError.exit_code}
_SECONDS_BETWEEN = 1.0


class StatusWriter(Callback):
    """Writes RUN/status.json: always a whole file, updated at most once a second while running.

    Keys: state (running, done, stopped, failed), step, measuring (what is measured after that step,
    "validation loss" or a suite and how far it is, null while nothing is; written as soon as it
    begins or ends), exit_code and reason (null while running), pid, host, updated (UTC). A
    killed run stays "running", with a pid that no longer exists. A status that cannot be written
    (disk full) is only logged, so that it hides no other failure.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._step = 0
        self._written = 0.0
        self._measuring: str | None = None

    def on_start(self, run: RunStart) -> None:
        """Write the state running."""
        self._folder, self._step = run.folder, run.first_step - 1
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

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Write the final state."""
        self._measuring = None
        self._write(state, _EXIT_CODES[state] if exit_code is None else exit_code, reason)

    def _write(self, state: str, exit_code: int | None, reason: str | None) -> None:
        status = {
            "state": state,
            "step": self._step,
            "measuring": self._measuring,
            "exit_code": exit_code,
            "reason": reason,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            write_json(self._folder / STATUS, status)
        except TrainingError as error:
            _log.warning("%s", error)
        self._written = time.monotonic()


def read_status(run_dir: Path) -> dict[str, Any] | None:
    """The content of status.json; None where it is missing or no JSON object."""
    try:
        status = json.loads((Path(run_dir) / STATUS).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return status if isinstance(status, dict) else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically: a reader sees the old one or the new one.

    Raises TrainingError where it cannot be written (disk full).
    """
    try:
        write_whole(path, json.dumps(content, indent=2) + "\n", durable=False)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}") from None
