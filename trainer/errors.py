"""What a user can cause: each error carries one line (what, where, the mend) and an exit code."""


class LyceumError(Exception):
    """Base of every error that a user can cause; shown as one line, never as a stack trace."""

    exit_code = 1


class RecipeError(LyceumError):
    """The recipe or the command is wrong."""

    exit_code = 2


class DataError(LyceumError):
    """The data is missing, damaged, or not what the recipe says."""

    exit_code = 3


class CheckpointError(DataError):
    """A checkpoint is missing, half-written, or damaged."""


class TrainingError(LyceumError):
    """Training failed: non-finite steps in a row, divergence, or no room to save."""

    exit_code = 4


class GateError(LyceumError):
    """An evaluation fell below its gate."""

    exit_code = 5


class ClusterError(LyceumError):
    """The cluster refused, or a preflight check failed."""

    exit_code = 6


class StopRequested(LyceumError):
    """The run was asked to stop, has saved, and can be resumed."""

    exit_code = 75
