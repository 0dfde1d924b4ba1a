"""Errors that a user can cause: each has one line (what, where, the remedy) and an exit code."""

from typing import NotRequired, TypedDict

from trainer.addresses import redacted

LONGEST_LINE = 2000
"""Characters of an error that are shown."""


class LyceumError(Exception):
    """Base of every error that a user can cause; shown as one line, never as a stack trace.

    `rank`, `signal`: whose error it was, and which signal ended it, where the process that started
    the ranks knows.
    """

    exit_code = 1
    rank: int | None = None
    signal: str | None = None

    def __str__(self) -> str:
        """The line, its addresses without their secrets."""
        return redacted(super().__str__())


class RecipeError(LyceumError):
    """The recipe or the command is wrong."""

    exit_code = 2


class SuiteUnavailable(RecipeError):
    """An evaluation suite has nothing to ask here, as without a corpus; says what it needs."""


class DataError(LyceumError):
    """The data is missing, damaged, or not what the recipe says."""

    exit_code = 3


class CheckpointError(DataError):
    """A checkpoint is missing, half-written, or damaged."""


class TrainingError(LyceumError):
    """Training failed: non-finite steps in a row, divergence, or no room to save."""

    exit_code = 4


class NotFiniteError(TrainingError):
    """The weights or the optimizer's state hold values that are not finite."""


class LocalDiskError(TrainingError):
    """A checkpoint could not be written to a machine's own disk."""


class RankFailed(TrainingError):
    """A rank ended by something that no recipe says: killed, frozen, out of memory, a fault.

    The same command goes on from the last good checkpoint, and `recovery.restarts` does by itself.
    """


class ContactLost(RankFailed):
    """A rank lost the others: what came of another rank's end, and not the cause of anything."""


class GateError(LyceumError):
    """An evaluation fell below its gate."""

    exit_code = 5


class ClusterError(LyceumError):
    """The cluster refused, or a preflight check failed."""

    exit_code = 6


class DeviceMissing(ClusterError):
    """A rank has no device on its machine: too many were started, or one is gone."""


class StopRequested(LyceumError):
    """The run was asked to stop, has saved, and can be resumed."""

    exit_code = 75


def shown(error: LyceumError) -> str:
    """An error as its one line; what a terminal would obey or hide is escaped, as repr does, and
    from the middle of a very long one something is left out.
    """
    words = " ".join(str(error).split())
    if len(words) > LONGEST_LINE:
        half = LONGEST_LINE // 2
        words = f"{words[:half]} ... {words[-half:]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words)


class ErrorNote(TypedDict):
    """An error as plain JSON, to be sent to another process.

    `kinds`: names of its class and base classes, in the order of the MRO; `line`: its message;
    `signal`: which ended what it tells of.
    """

    kinds: list[str]
    line: str
    exit_code: int
    signal: NotRequired[str | None]


def note_of(error: LyceumError) -> ErrorNote:
    """What another process needs to raise the same error with `error_of`."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, LyceumError)]
    return {
        "kinds": kinds,
        "line": str(error),
        "exit_code": error.exit_code,
        "signal": error.signal,
    }


def error_of(note: ErrorNote) -> LyceumError:
    """The error that `note_of` described, with its line and its exit code.

    A class that this module does not define becomes its nearest base class that it does.
    """
    named = (globals().get(name) for name in note["kinds"])
    known = (kind for kind in named if isinstance(kind, type) and issubclass(kind, LyceumError))
    error = next(known, LyceumError)(note["line"])
    error.exit_code = note["exit_code"]
    error.signal = note.get("signal")
    return error
