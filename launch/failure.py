"""How a rank tells the process that started it why it failed: one error is shown for all."""

import json
import os
import traceback
from dataclasses import dataclass
from pathlib import Path

from launch.output import unwritable
from trainer.errors import LyceumError, StopRequested, error_of, note_of

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
    trace: str
    """The stack trace of the error, where there was one."""

    @property
    def weight(self) -> tuple[int, int]:
        """Sorts the cause before its consequences.

        A user's error is the cause of whatever else happened: the ranks left alone then stumble
        over closed connections. A stop explains nothing where another rank failed.
        """
        if self.error is not None:
            return (3 if isinstance(self.error, StopRequested) else 0, self.rank)
        return (1 if self.exit_code < 0 else 2, self.order)


def leave_failure(error: BaseException) -> bool:
    """Write `error` where the starting process looks for it; False where nobody does."""
    path = os.environ.get(FAILURE_FILE)
    if path is None:
        return False
    trace = "".join(traceback.format_exception(error))
    error = unwritable(error) or error
    note = {"error": note_of(error) if isinstance(error, LyceumError) else None, "trace": trace}
    try:
        Path(path).write_text(json.dumps(note), encoding="utf-8")
    except OSError:
        return False  # The disk is full or the starter is gone: print it after all.
    return True


def read_failure(path: Path, rank: int, exit_code: int, order: int) -> Failure:
    """How `rank` ended, with what `leave_failure` wrote at `path`, if anything."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Failure(rank, exit_code, order, error=None, trace="")
    error = None
    if note["error"] is not None:
        error = error_of(note["error"])
        error.add_note(f"on rank {rank}:\n{note['trace']}")
    return Failure(rank, exit_code, order, error, note["trace"])
