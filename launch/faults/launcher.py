"""A run's launcher as a fork of this warm process, and its end."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from launch.local import train_ranks
from launch.ranks import INTERRUPTED
from launch.standing import process_state
from trainer.errors import LyceumError, shown
from trainer.recipe import Recipe

HANGS_SECONDS = 300.0
"""A run that takes longer hangs: it takes seconds, and minutes on the busiest machine."""


def run_to_end(recipe: Recipe, ranks: int, screen: Path) -> None:
    """Train undisturbed; raises SystemExit where even that fails."""
    if code := wait_for(fork_launcher(recipe, ranks, screen)):
        raise SystemExit(f"an undisturbed run ended with {code}: see {screen}")


def fork_launcher(recipe: Recipe, ranks: int, screen: Path) -> int:
    """The process id of a launcher of this run, a fork of this warm process."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_launcher(recipe, ranks, screen)
    return pid


def _be_launcher(recipe: Recipe, ranks: int, screen: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        descriptor = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        code = train_ranks(recipe, ranks, force=False)
    except LyceumError as error:
        print(f"lyceum: error: {shown(error)}", flush=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        os._exit(code)


def wait_for(pid: int) -> int | None:
    """A process's exit code, minus the signal's number; None, and killed, where it hangs."""
    deadline = time.monotonic() + HANGS_SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits only to be counted."""
    return process_state(pid) in ("Z", "")


def wait_until_gone(pids: list[int]) -> None:
    """Wait for processes that are about to end with the one that started them."""
    while any(not has_ended(pid) for pid in pids):
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """The processes that a process started, in the order in which they were."""
    try:
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []
