"""How the ranks of a command ended, and which of their ends was the cause of the others."""

from dataclasses import dataclass
from pathlib import Path

from launch.output import unwritable
from trainer.errors import ContactLost, LyceumError, RankFailed, StopRequested, error_of
from trainer.recovery.note import FAILURE_FILE, read_note, write_note

__all__ = ["FAILURE_FILE", "Failure", "leave_failure", "read_failure"]


@dataclass(frozen=True)
class Failure:
    """How one rank ended, other than well."""

    rank: int
    exit_code: int
    """As subprocess reports it: minus the signal's number where a signal ended the rank."""
    seconds: float
    """When: as the rank noted, or when it was seen to be gone, by the monotonic clock."""
    error: LyceumError | None
    """What a user caused, or what the rank made of its failure; None where it said nothing."""
    trace: str
    """The stack trace of the error, where there was one."""

    @property
    def weight(self) -> tuple[int, float]:
        """Sorts the cause before its consequences.

        A user's error is the cause of whatever else happened: the ranks left alone then stumble
        over closed connections. A stop explains nothing where another rank failed.
        """
        if isinstance(self.error, StopRequested):
            return (4, self.rank)
        if isinstance(self.error, ContactLost):
            return (3, self.seconds)
        if isinstance(self.error, RankFailed):
            return (1, self.seconds)
        if self.error is not None:
            return (0, self.rank)
        return (1 if self.exit_code < 0 else 2, self.seconds)


def leave_failure(error: BaseException) -> bool:
    """Write `error` where the starting process looks for it; False where nobody does."""
    return write_note(error, unwritable(error))


def read_failure(path: Path, rank: int, exit_code: int, seconds: float) -> Failure:
    """How `rank` ended, seen at `seconds`, with what it left at `path`, if anything."""
    note = read_note(path)
    if note is None:
        return Failure(rank, exit_code, seconds, error=None, trace="")
    error = None
    if note["error"] is not None:
        error = error_of(note["error"])
        error.add_note(f"on rank {rank}:\n{note['trace']}")
        error.rank = rank
    return Failure(rank, exit_code, min(seconds, note["seconds"]), error, note["trace"])
