"""Local ranks: started together, signalled together, ended together."""

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from launch.failure import FAILURE_FILE, leave_failure, read_failure
from launch.ports import master_port
from trainer.addresses import redacted
from trainer.errors import LyceumError, RankFailed, StopRequested, shown
from trainer.parallel.loopback import loopback_environment
from trainer.recovery.note import failed_alone, read_note
from trainer.recovery.signals import STOPPING, heeded

_PR_SET_PDEATHSIG = 1
INTERRUPTED = 130
"""The exit code of a rank that SIGINT ended at once."""
_TOO_EARLY = "came before the next save; the same command goes on from what is kept"


class Rank(Protocol):
    """A started rank."""

    @property
    def pid(self) -> int:
        """Process id, and id of the rank's own process group."""

    def poll(self) -> int | None:
        """The exit code, minus the signal's number where one ended it; None while it runs."""

    def wait(self) -> int:
        """The same, when it has ended."""


class Overseer(Protocol):
    """What a command that may not be lost asks of its ranks while they run."""

    def environment(self, rank: int) -> dict[str, str]:
        """Variables for a rank, before it starts."""

    def look(self, running: Mapping[int, int], signals: Sequence[int]) -> None:
        """Look at the ranks that run, by process id, and at the signals that came.

        Raises the LyceumError for which all are to be ended.
        """

    def ended(self, rank: int, pid: int, exit_code: int) -> RankFailed:
        """What to say of a rank that ended without a word of its own."""


class ForkedRank:
    """A rank that is a fork of this process: what is imported here need not be imported again."""

    def __init__(self, worker: Callable[[], int], environment: Mapping[str, str]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self._code: int | None = None
        # No signal may arrive while the child still has its parent's handlers.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        self.pid = os.fork()
        if self.pid == 0:
            _become_rank(worker, environment, parent, unblocked)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def poll(self) -> int | None:
        """The exit code, minus the signal's number where one ended it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self) -> int:
        """The same, when it has ended."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def start_process(command: Sequence[str], environment: Mapping[str, str]) -> Rank:
    """A rank in a process of its own: CUDA does not survive a fork."""
    parent = os.getpid()
    return subprocess.Popen(
        list(command),
        env={**os.environ, **environment},
        process_group=0,
        preexec_fn=lambda: die_with(parent),
    )


def _become_rank(
    worker: Callable[[], int], environment: Mapping[str, str], parent: int, unblocked: set[Any]
) -> NoReturn:
    """Never returns: runs `worker` and ends this process without the parent's clean-up."""
    code = 1
    # What the parent loaded stays: looking for cycles in it would copy all its pages.
    gc.freeze()
    try:
        os.setpgid(0, 0)
        die_with(parent)
        for number in heeded():
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        os.environ.update(environment)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        code = worker()
    except LyceumError as error:
        code = error.exit_code
        if not leave_failure(error):
            print(f"lyceum: error: {shown(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as request:
        code = request.code if isinstance(request.code, int) else 1
    except BaseException as error:
        if not leave_failure(error):
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # a full disk must not keep this process from ending
                stream.flush()
        os._exit(code)


def die_with(parent: int) -> None:
    """Ask Linux to end this process when `parent` ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


GRACE_SECONDS = 10.0
"""How long all ranks have to end by themselves after one has failed."""
ALONE_GRACE_SECONDS = 0.1
"""The same where it failed alone, as by a signal: the others have nothing to agree on, and may wait
in a collective that does not see that one is gone."""
_POLL_SECONDS = 0.02
_POLLS_BETWEEN_LOOKS = 5


def run_ranks(
    worker: Callable[[], int],
    count: int,
    device: str,
    command: Sequence[str] | None = None,
    grace_seconds: float = GRACE_SECONDS,
    overseer: Overseer | None = None,
    signals: list[int] | None = None,
) -> int:
    """Run `count` local ranks to their end; 0 where all ended well, else a failing rank's code.

    device "cpu": each rank is a fork that calls `worker`. "cuda": each is a new process that runs
    `command` (None: this command again), which finds itself a rank by its environment.
    SIGINT, SIGTERM, SIGUSR1 and SIGHUP are passed on to every rank. A rank counts as failed once it
    has left its note, whatever it still does. Raises the LyceumError that a rank raised, RankFailed
    where a signal ended one, ClusterError where the port is taken, and what `overseer` raises.
    """
    again = command or [sys.executable, "-m", "trainer", *sys.argv[1:]]
    with master_port() as port, tempfile.TemporaryDirectory(prefix="lyceum-") as folder:
        notes = [Path(folder) / f"rank-{rank}.json" for rank in range(count)]
        ranks: list[Rank] = []
        with nullcontext(signals) if signals is not None else collecting_signals() as signals:
            try:
                for rank in range(count):
                    environment = _environment(rank, count, port, notes[rank])
                    if overseer is not None:
                        environment |= overseer.environment(rank)
                    if device == "cpu":
                        ranks.append(ForkedRank(worker, environment))
                    else:
                        ranks.append(start_process(again, environment))
                assert signals is not None
                ended = _wait(ranks, notes, signals, grace_seconds, overseer)
            finally:
                _end(ranks)
        return _outcome(ranks, ended, notes, signals, overseer)


def _environment(rank: int, count: int, port: int, note: Path) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // count)
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        FAILURE_FILE: str(note),
        **loopback_environment(),
    }


@contextmanager
def collecting_signals() -> Iterator[list[int]]:
    """A list that grows by each signal that asks for a stop.

    The ranks are in groups of their own, so a terminal's Ctrl-C reaches them only as it is passed
    on. Who gives the list to `run_ranks` keeps it over several starts. That is left to `_wait`: a
    handler may interrupt the start of a rank, or a look at it.
    """
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before: dict[signal.Signals, Any] = {}
    try:
        for number in heeded():
            before[number] = signal.signal(number, receive)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class _Ended:
    """A rank that ended by itself: its exit code, and when that was seen."""

    rank: int
    exit_code: int
    seconds: float


def _wait(
    ranks: list[Rank],
    notes: list[Path],
    signals: list[int],
    grace_seconds: float,
    overseer: Overseer | None,
) -> list[_Ended]:
    """All ranks in the order they ended; those that linger behind a failure are left out.

    Passes `signals` on as they arrive.
    """
    ended: list[_Ended] = []
    deadline, passed, looks = float("inf"), 0, 0
    waiting = dict(enumerate(ranks))
    while waiting and (now := time.monotonic()) < deadline:
        received, passed = signals[passed:], len(signals)
        for number, rank in list(waiting.items()):
            code = rank.poll()
            if code is None:
                for each in received:
                    os.kill(rank.pid, each)
                if deadline == float("inf") and (note := read_note(notes[number])):
                    deadline = now + _grace(failed_alone(note), grace_seconds)
                continue
            del waiting[number]
            ended.append(_Ended(number, code, now))
            if code != 0:
                _end_group(rank)
                alone = code < 0 and -code not in signals
                deadline = min(deadline, now + _grace(alone, grace_seconds))
        looks += 1
        sound = waiting and deadline == float("inf")
        if overseer is not None and sound and looks % _POLLS_BETWEEN_LOOKS == 0:
            overseer.look({number: rank.pid for number, rank in waiting.items()}, signals)
        # A wait for any child would miss the signals to pass on, and take others' children.
        time.sleep(_POLL_SECONDS)
    return ended


def _grace(alone: bool, seconds: float) -> float:
    return min(seconds, ALONE_GRACE_SECONDS) if alone else seconds


def _end_group(rank: Rank) -> None:
    """End what a rank that failed has started and left behind, such as its data workers."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(rank.pid, signal.SIGKILL)


def _end(ranks: list[Rank]) -> None:
    """Kill every rank that still runs, with whatever processes it started."""
    for rank in ranks:
        if rank.poll() is None:
            _end_group(rank)
            os.kill(rank.pid, signal.SIGKILL)  # it may not have come to its group yet
    for rank in ranks:
        rank.wait()


def _outcome(
    ranks: list[Rank],
    ended: list[_Ended],
    notes: list[Path],
    signals: list[int],
    overseer: Overseer | None,
) -> int:
    failures = [
        read_failure(notes[end.rank], end.rank, end.exit_code, end.seconds)
        for end in ended
        if end.exit_code != 0
    ]
    # A rank that had to be ended may have said why it failed.
    lingering = set(range(len(ranks))) - {end.rank for end in ended}
    failures += [
        read_failure(notes[rank], rank, 1, float("inf"))
        for rank in lingering
        if notes[rank].exists()
    ]
    if not failures:
        return 0
    cause = min(failures, key=lambda failure: failure.weight)
    if cause.error is not None:
        raise cause.error
    if -cause.exit_code in signals:
        raise stopped_early(-cause.exit_code)
    if cause.exit_code == INTERRUPTED and signals.count(signal.SIGINT) == 1:
        raise stopped_early(signal.SIGINT)  # a second one was to end it at once
    if overseer is not None and cause.exit_code != INTERRUPTED:
        raise overseer.ended(cause.rank, ranks[cause.rank].pid, cause.exit_code)
    if cause.exit_code < 0:
        name = signal.Signals(-cause.exit_code).name
        raise RankFailed(
            f"rank {cause.rank} was ended by {name} (out of memory, or killed by someone); the "
            "same command goes on from what was saved"
        )
    if cause.trace:
        print(f"rank {cause.rank}:\n{cause.trace}", file=sys.stderr)
    return cause.exit_code


def stopped_early(number: int) -> StopRequested:
    """What to raise for a signal that came before there was anything new to save."""
    name = signal.Signals(number).name
    error = StopRequested(f"{name} {_TOO_EARLY}")
    error.signal = name
    return error
