"""What fails on a rank gets its one line, and is known outside, before the rank unwinds.

Unwinding may meet the other ranks in a collective that they never enter, or take its time; the
process that started the ranks, or else this rank itself, ends what takes longer than it may.
"""

import errno
import os
import socket
import threading
from pathlib import Path
from types import TracebackType

from trainer.errors import ContactLost, GateError, LyceumError, RankFailed, StopRequested
from trainer.recovery.flight import answer_when_asked
from trainer.recovery.heartbeat import Heartbeat
from trainer.recovery.note import write_note
from trainer.recovery.stacks import write_stack_when_asked

UNWINDING_SECONDS = 10.0
"""How long a rank that fails beside others may take to end by itself."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write raises where the disk is full, or a limit reached, or the disk itself fails."""

_GOES_ON = "the same command goes on from what was saved"
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")
_ROOT = Path(__file__).parents[2]


class FaultBoundary:
    """A context, to be entered at several depths: the innermost one that an error leaves notes it.

    An error that a user caused passes as it is; any other becomes a RankFailed that names rank,
    process, host, phase, step and cause. What else fails on the way out does not replace it.
    `heartbeat` is this rank's.
    """

    def __init__(self) -> None:
        self.heartbeat = Heartbeat.of_environment()
        write_stack_when_asked()
        answer_when_asked()
        self._depth = 0
        self._named: LyceumError | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "FaultBoundary":
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if isinstance(error, Exception) and self._named is None and not _of_output(error):
            self._named = name_failure(error, self.heartbeat)
            write_note(error, self._named)
            self._limit(self._named)
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()
        if isinstance(error, Exception) and self._named not in (None, error):
            raise self._named from error.__cause__ or error

    def _limit(self, named: LyceumError) -> None:
        """End this process where it has not unwound in time; alone it may take any time."""
        agreed = isinstance(named, StopRequested | GateError)
        if agreed or int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return
        self._timer = threading.Timer(UNWINDING_SECONDS, os._exit, (named.exit_code,))
        self._timer.daemon = True
        self._timer.start()


def _of_output(error: Exception) -> bool:
    """Whether a write to no file by name found no room: standard output's, which the command
    tells apart (launch.output).
    """
    return isinstance(error, OSError) and error.filename is None and error.errno in NO_ROOM


def this_rank() -> str:
    """Who this is, for a sentence: "rank 1 (process 4242 on node7)"."""
    rank = os.environ.get("RANK", "0")
    return f"rank {rank} (process {os.getpid()} on {socket.gethostname()})"


def name_failure(error: Exception, heartbeat: Heartbeat) -> LyceumError:
    """The one line for an error on this rank; what a user caused is its own."""
    if isinstance(error, LyceumError) and type(error) is not RankFailed:
        return error
    phase, step = heartbeat.phase, heartbeat.step
    where = f"in {phase} of step {step}" if step else f"in its {phase}"
    who = this_rank()
    if isinstance(error, RankFailed):
        return RankFailed(f"{who} failed {where}: {error}; {_GOES_ON}")
    text = str(error)
    if _out_of_memory(error):
        return RankFailed(
            f"{who} failed {where}: out of memory: {_first_line(text)}; lower batch.micro, set "
            f"recompute or zero.offload, or take more ranks; {_GOES_ON}"
        )
    if _lost_contact(error):
        return ContactLost(
            f"{who} lost the other ranks {where}: {_first_line(text).partition('. ')[0]}; look at "
            f"their logs; {_GOES_ON}"
        )
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return RankFailed(
            f"{who} failed {where}: {error.filename}: {error.strerror}; make room; {_GOES_ON}"
        )
    said = _first_line(text)
    cause = f"{type(error).__name__}{': ' if said else ''}{said}"
    return RankFailed(f"{who} failed {where}: {cause} ({_line(error)}); {_GOES_ON}")


def _out_of_memory(error: Exception) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _NO_MEMORY)
    return named or system or said


def _lost_contact(error: Exception) -> bool:
    """Whether a collective failed because of another rank, by what gloo and NCCL say."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    return "DistError" in kinds or (
        isinstance(error, RuntimeError) and ("/gloo/" in text or "NCCL" in text)
    )


def _first_line(text: str) -> str:
    return " ".join(text.strip().partition("\n")[0].split())


def _line(error: BaseException) -> str:
    """Where an error was raised: the innermost line of ours, or else of anybody's."""
    frames, step = [], error.__traceback__
    while step is not None:
        frames.append((Path(step.tb_frame.f_code.co_filename), step.tb_lineno))
        step = step.tb_next
    ours = [
        (path.relative_to(_ROOT), line)
        for path, line in frames
        if path.is_relative_to(_ROOT / "trainer") or path.is_relative_to(_ROOT / "kernels")
    ]
    path, line = (ours or frames or [(Path("?"), 0)])[-1]
    return f"{path}:{line}"
