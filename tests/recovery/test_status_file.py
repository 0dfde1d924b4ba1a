import json
import os
from pathlib import Path

import pytest

from trainer.errors import TrainingError
from trainer.recovery.status_file import (
    left_without_a_word,
    read_status,
    recorded_step,
    status_of,
    write_status,
)


def test_a_status_says_every_part_of_an_end(tmp_path: Path) -> None:
    """Catches a key that schedulers look for and no longer find."""
    ended = {"exit_code": 4, "reason": "it froze", "error": "RankFailed", "rank": 1}
    write_status(tmp_path, status_of("failed", 7, **ended, signal="SIGKILL", checkpoint="step-6"))
    status = read_status(tmp_path) or {}
    assert status.items() >= {"state": "failed", "step": 7, **ended, "signal": "SIGKILL"}.items()
    assert status["checkpoint"] == "step-6" and status["restarts"] == 0
    assert status["pid"] == os.getpid() and status["host"] and status["updated"]


def test_on_a_full_disk_the_last_word_takes_the_old_ones_room(tmp_path: Path) -> None:
    """Catches a shorter status with the end of the longer one behind it."""
    write_status(tmp_path, status_of("running", 7, reason="x" * 200))
    (tmp_path / f"status.json.{os.getpid()}.tmp").symlink_to("/dev/full")
    write_status(tmp_path, status_of("failed", 8))
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_where_there_is_no_folder_it_is_one_line(tmp_path: Path) -> None:
    """Catches a stack trace over the error that matters."""
    with pytest.raises(TrainingError, match="cannot be written"):
        write_status(tmp_path / "gone", status_of("failed", 8))


def test_the_recorded_step_is_that_of_the_last_whole_line(tmp_path: Path) -> None:
    """Catches half a line, which a killed run leaves, taken for a step, or for none at all."""
    assert recorded_step(tmp_path) == 0
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n{"step": 2}\n{"step": 3')
    assert recorded_step(tmp_path) == 2
    metrics.write_text('{"step": 9, "long": "' + "x" * 200_000 + '"}\n{"step": 10}\n')
    assert recorded_step(tmp_path) == 10


def test_a_run_that_could_not_say_its_end_is_told_of(tmp_path: Path) -> None:
    """Catches a killed launcher that nobody ever hears of."""
    assert left_without_a_word(tmp_path) is None
    write_status(tmp_path, status_of("running", 2))
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n')
    line = left_without_a_word(tmp_path) or ""
    assert f"process {os.getpid()}" in line and "after step 3" in line
    write_status(tmp_path, status_of("stopped", 3))
    assert left_without_a_word(tmp_path) is None
