import json
import os
import shutil
from pathlib import Path

import pytest

from tests.observe.starting import start
from trainer.observe import StatusWriter, read_status


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("stopped", 75), ("failed", 4)])
def test_the_end_is_told_with_its_exit_code(tmp_path: Path, state: str, code: int) -> None:
    """Would catch a status from which a scheduler resumes a run that has failed."""
    status = StatusWriter()
    status.on_start(start(tmp_path, first_step=5))
    running = read_status(tmp_path)
    assert running is not None
    assert (running["state"], running["step"], running["exit_code"]) == ("running", 4, None)
    assert running["pid"] == os.getpid()
    status.on_step({"step": 5})
    status.on_stop(state, "because")
    ended = read_status(tmp_path)
    assert ended is not None
    assert (ended["state"], ended["step"]) == (state, 5)
    assert (ended["exit_code"], ended["reason"]) == (code, "because")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_the_given_exit_code_counts(tmp_path: Path) -> None:
    """Would catch bad data reported as failed training."""
    status = StatusWriter()
    status.on_start(start(tmp_path))
    status.on_stop("failed", "a shard is missing", 3)
    assert json.loads((tmp_path / "status.json").read_text())["exit_code"] == 3


def test_steps_are_not_written_more_than_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a file system hammered by a small model's steps."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    status = StatusWriter()
    status.on_start(start(tmp_path))
    seen = []
    for step in range(1, 7):
        clock[0] += 0.4
        status.on_step({"step": step})
        seen.append((read_status(tmp_path) or {})["step"])
    assert seen == [0, 0, 3, 3, 3, 6]


def test_a_status_that_cannot_be_written_hides_no_other_failure(tmp_path: Path) -> None:
    """Would catch "status.json cannot be written" reported in the place of the full disk."""
    status = StatusWriter()
    status.on_start(start(tmp_path))
    shutil.rmtree(tmp_path)
    status.on_stop("failed", "disk full")
    assert read_status(tmp_path) is None


def test_a_full_disk_has_room_for_the_last_word(tmp_path: Path) -> None:
    """Would catch a run that ended on a full disk and stays "running": nobody would look at it."""
    status = StatusWriter()
    status.on_start(start(tmp_path))
    (tmp_path / f"status.json.{os.getpid()}.tmp").symlink_to("/dev/full")
    status.on_stop("failed", "disk full")
    ended = read_status(tmp_path) or {}
    assert (ended["state"], ended["reason"]) == ("failed", "disk full")


def test_where_a_launcher_waits_for_all_ranks_its_word_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a rank's own story of its end over that of the process that saw all of them."""
    monkeypatch.setenv("LYCEUM_LAUNCHER", "4242")
    status = StatusWriter()
    status.on_start(start(tmp_path))
    status.on_stop("failed", "connection reset by peer")
    running = read_status(tmp_path) or {}
    assert (running["state"], running["pid"]) == ("running", 4242)


def test_a_run_that_never_started_has_no_status(tmp_path: Path) -> None:
    """Would catch an error where a question was asked."""
    assert read_status(tmp_path) is None
    (tmp_path / "status.json").write_text("[]")
    assert read_status(tmp_path) is None


def test_a_status_says_what_is_measured_and_after_which_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a long examination that looks like a run that hangs, or one that never ends.

    Steps are recorded when what is measured after them has been; the clock stands still.
    """
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    status = StatusWriter()
    status.on_start(start(tmp_path))

    def seen() -> tuple[int, str | None]:
        now = read_status(tmp_path)
        assert now is not None
        return now["step"], now["measuring"]

    status.on_validate(3)
    assert seen() == (3, "validation loss")
    status.on_evaluate(3, {"eval/loss": 1.0})
    assert seen() == (3, None)
    status.on_advance(3, "bias", 0, 9)
    status.on_advance(3, "bias", 4, 9)
    assert seen() == (3, "bias 0/9")
    monkeypatch.setattr("time.monotonic", lambda: 102.0)
    status.on_advance(3, "bias", 5, 9)
    assert seen() == (3, "bias 5/9")
    status.on_advance(3, "tasks", 0, 2)
    assert seen() == (3, "tasks 0/2")
    status.on_advance(3, "tasks", 2, 2)
    monkeypatch.setattr("time.monotonic", lambda: 104.0)
    status.on_step({"step": 2})
    assert seen() == (3, None)
