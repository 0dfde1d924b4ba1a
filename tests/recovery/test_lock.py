import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainer.errors import RecipeError
from trainer.recovery import RunLock

# Takes the lock, forks a child that outlives it as a data worker would, and waits.
HOLDER = """
import os, signal, sys
from pathlib import Path
from trainer.recovery.lock import RunLock
with RunLock(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    signal.pause()
"""


@contextmanager
def held(run: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the lock, and the child which it forked."""
    command = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            yield holder, child
        finally:
            os.kill(child, signal.SIGKILL)
            holder.kill()


def test_a_second_writer_is_told_who_holds_the_run_and_a_dead_one_holds_nothing(
    tmp_path: Path,
) -> None:
    """Would catch two jobs in one directory; and kill -9 leaving a lock that bars resuming, held
    by a forked data worker for as long as it lives.
    """
    run = tmp_path / "run"
    with held(run) as (holder, _):
        with pytest.raises(RecipeError, match=f"is being written by process {holder.pid} on "):
            RunLock(run).__enter__()
        holder.kill()
        holder.wait()
        with RunLock(run):
            assert str(os.getpid()) in (run / ".lock").read_text()


def test_the_lock_can_be_taken_again(tmp_path: Path) -> None:
    """Would catch a lock that only the first run of a process can take."""
    for _ in range(2):
        with RunLock(tmp_path):
            pass
    assert (tmp_path / ".lock").read_text() == ""


def test_a_run_that_cannot_be_a_directory_is_one_line(tmp_path: Path) -> None:
    """Would catch a stack trace where the run's name is taken by a file."""
    (tmp_path / "run").write_text("")
    with pytest.raises(RecipeError, match="cannot be written"):
        RunLock(tmp_path / "run").__enter__()
