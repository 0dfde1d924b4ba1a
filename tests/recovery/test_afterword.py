"""The last word of a run that torchrun stopped."""

import os
import signal
from pathlib import Path

import pytest

from trainer.recovery.afterword import write_afterword
from trainer.recovery.status_file import left_without_a_word, read_status, status_of, write_status


def waiting_process() -> int:
    """A process that is there until it is killed."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


def test_a_run_whose_torchrun_ended_has_stopped(tmp_path: Path) -> None:
    """Catches a run that a scheduler ended and that says "running" for ever."""
    write_status(tmp_path, status_of("running", 8, reason="stopped after step 8", replicas=3))
    assert left_without_a_word(tmp_path) is None, "it said what happened"
    left = read_status(tmp_path)
    pid = waiting_process()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert write_afterword(tmp_path, pid, left)
    status = read_status(tmp_path) or {}
    assert (status["state"], status["exit_code"], status["replicas"]) == ("stopped", 75, 3)


def test_a_run_that_torchrun_began_again_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run that says "stopped" while it trains, as a node came."""
    write_status(tmp_path, status_of("running", 8, reason="stopped after step 8"))
    left = read_status(tmp_path)
    write_status(tmp_path, status_of("running", 9))
    monkeypatch.setattr("trainer.recovery.afterword._LOOK_SECONDS", 0.01)
    pid = waiting_process()
    try:
        assert not write_afterword(tmp_path, pid, left)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not write_afterword(tmp_path, pid, left), "nor where it ends later"
    assert (read_status(tmp_path) or {})["state"] == "running"
