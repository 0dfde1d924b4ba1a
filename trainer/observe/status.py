"""status.json: the authority on how a run stands, where an exit code can be lost."""

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
    """Keeps RUN/status.json true: always a whole file, at most a second behind while running.

    Keys: state (running, done, stopped, failed), step, exit_code and reason (null while running),
    pid, host, updated (UTC). A killed run stays "running": its pid tells that it is gone. A status
    that can't be written (disk full) is logged, and hides no other failure.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._step = 0
        self._written = 0.0

    def on_start(self, run: RunStart) -> None:
        """State running."""
        self._folder, self._step = run.folder, run.first_step - 1
        self._write("running", None, None)

    def on_step(self, record: dict[str, Any]) -> None:
        """The step reached, not more often than once a second."""
        self._step = record["step"]
        if time.monotonic() - self._written >= _SECONDS_BETWEEN:
            self._write("running", None, None)

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """The final state."""
        self._write(state, _EXIT_CODES[state] if exit_code is None else exit_code, reason)

    def _write(self, state: str, exit_code: int | None, reason: str | None) -> None:
        status = {
            "state": state,
            "step": self._step,
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
    """What status.json says; None where the run never started (or the file is no JSON object)."""
    try:
        status = json.loads((Path(run_dir) / STATUS).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return status if isinstance(status, dict) else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a part.

    Raises TrainingError where it can't be written (disk full).
    """
    try:
        write_whole(path, json.dumps(content, indent=2) + "\n", durable=False)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}") from None
