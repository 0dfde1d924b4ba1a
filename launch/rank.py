"""Starting one local rank: a fork of this process, or a new one."""

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from launch.failure import leave_failure
from trainer.errors import LyceumError

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The signals that ask a run to stop."""
_PR_SET_PDEATHSIG = 1


class Rank(Protocol):
    """A started rank."""

    @property
    def pid(self) -> int:
        """Process id, and id of the rank's own process group."""

    def poll(self) -> int | None:
        """The exit code, minus the signal's number where one ended it; None while it runs."""


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


def start_process(command: Sequence[str], environment: Mapping[str, str]) -> Rank:
    """A rank in a process of its own: CUDA does not survive a fork."""
    parent = os.getpid()
    return subprocess.Popen(
        list(command),
        env={**os.environ, **environment},
        process_group=0,
        preexec_fn=lambda: _die_with(parent),
    )


def _become_rank(
    worker: Callable[[], int], environment: Mapping[str, str], parent: int, unblocked: set[Any]
) -> NoReturn:
    """Never returns: runs `worker` and ends this process without the parent's clean-up."""
    code = 1
    try:
        os.setpgid(0, 0)
        _die_with(parent)
        for number in STOPPING:
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
            print(f"lyceum: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except SystemExit as request:
        code = request.code if isinstance(request.code, int) else 1
    except BaseException as error:
        if not leave_failure(error):
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    """Ask Linux to end this process when `parent` ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
