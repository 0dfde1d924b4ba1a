import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainer.errors import RecipeError
from trainer.recovery import LockedFolder, RunLock, run_lock
from trainer.recovery.lock import LAUNCHER


def hold(run: Path, report: int) -> None:
    """Take the lock, fork a child that outlives it as a data worker would, and wait."""
    with RunLock(run):
        child = os.fork()
        if child:
            os.write(report, str(child).encode())
        signal.pause()


@contextmanager
def held(run: Path) -> Iterator[int]:
    """Another process that holds the lock; its child is ended at the end."""
    ready, report = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            hold(run, report)
        finally:
            os._exit(1)
    child = int(os.read(ready, 20))
    try:
        yield holder
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_second_writer_is_told_who_holds_the_run_and_a_dead_one_holds_nothing(
    tmp_path: Path,
) -> None:
    """Would catch two jobs in one directory; and kill -9 leaving a lock that bars resuming, held
    by a forked data worker for as long as it lives.
    """
    run = tmp_path / "run"
    with held(run) as holder:
        with pytest.raises(RecipeError, match=f"is being written by process {holder} on "):
            RunLock(run).__enter__()
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
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


def test_a_folder_that_is_taken_away_is_seen(tmp_path: Path) -> None:
    """Catches a run that goes on writing where another now is, or where nothing is any more."""
    run = tmp_path / "run"
    with RunLock(run):
        place = LockedFolder(run)
        assert place.fault() is None and place.of_nobody_else()
        run.rename(tmp_path / "moved")
        assert place.fault() == "was removed or renamed"
        run.mkdir()
        assert "another folder" in str(place.fault()) and not place.of_nobody_else()
        run.rmdir()
        (tmp_path / "moved").rename(run)
        assert place.fault() is None
        (run / ".lock").unlink()
        assert "lost its lock file" in str(place.fault()) and place.of_nobody_else()
        (run / ".lock").write_text("")
        assert "another process writes there" in str(place.fault()) and not place.of_nobody_else()


def test_a_rank_leaves_the_lock_to_the_process_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a rank refused by the lock of its own launcher."""
    with held(tmp_path / "run") as holder:
        monkeypatch.setenv(LAUNCHER, str(holder))
        with run_lock(tmp_path / "run"):
            assert str(holder) in (tmp_path / "run" / ".lock").read_text()
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)


def test_a_lock_that_is_let_go_in_time_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a restart under torchrun refused, as a rank of the start before has not ended yet."""
    run = tmp_path / "run"
    with held(run) as holder:

        def end_holder(_seconds: float) -> None:
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)

        monkeypatch.setattr("trainer.recovery.lock.time.sleep", end_holder)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
        with RunLock(run):
            assert str(os.getpid()) in (run / ".lock").read_text()
