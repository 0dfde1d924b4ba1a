"""How a rank tells the process that started it why it failed, so that one line is shown for all."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import trainer.errors
from trainer.errors import LyceumError

FAILURE_FILE = "LYCEUM_FAILURE_FILE"
"""Environment variable: where this rank leaves its error instead of printing it."""


@dataclass(frozen=True)
class Failure:
    """How one rank ended, other than well."""

    rank: int
    exit_code: int
    """As subprocess reports it: minus the signal's number where a signal ended the rank."""
    order: int
    """0 for the rank that ended first, and so on."""
    error: LyceumError | None
    """What a user caused; None where it was anything else."""

    @property
    def weight(self) -> tuple[int, int]:
        """Sorts the cause before its consequences.

        A user's error is the cause of whatever else happened: the ranks left alone then stumble
        over closed connections. A stop explains nothing where another rank failed.
        """
        if self.error is not None:
            stopped = isinstance(self.error, trainer.errors.StopRequested)
            return (3, self.rank) if stopped else (0, self.rank)
        return (1 if self.exit_code < 0 else 2, self.order)


def leave_failure(error: LyceumError) -> bool:
    """Write `error` where the starting process looks for it; False where nobody asked for that."""
    path = os.environ.get(FAILURE_FILE)
    if path is None:
        return False
    try:
        Path(path).write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
    except OSError:
        return False  # The disk is full or the starter is gone: print it after all.
    return True


def read_failure(path: Path) -> LyceumError | None:
    """What `leave_failure` wrote at `path`; None where nothing whole is there."""
    try:
        name, line = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = getattr(trainer.errors, name, LyceumError)
    error: LyceumError = kind(line)
    return error
