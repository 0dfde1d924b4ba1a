import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.observe.starting import start
from trainer.errors import TrainingError
from trainer.observe import MetricsWriter, read_metrics, truncate_metrics


def write(folder: Path, steps: range) -> None:
    metrics = MetricsWriter()
    metrics.on_start(start(folder, steps.start))
    for step in steps:
        metrics.on_step({"step": step, "loss": 1 / step})
    metrics.on_stop("done", "")


@settings(max_examples=50, deadline=None)
@given(loss=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_exactly(loss: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Would catch a rounded loss, with which no resume could be shown to be exact."""
    folder = tmp_path_factory.mktemp("run")
    metrics = MetricsWriter()
    metrics.on_start(start(folder))
    metrics.on_step({"step": 1, "loss": loss})
    assert read_metrics(folder) == [{"step": 1, "loss": loss}]


def test_values_that_json_has_no_word_for_are_null(tmp_path: Path) -> None:
    """Would catch a line that other JSON readers refuse."""
    metrics = MetricsWriter()
    metrics.on_start(start(tmp_path))
    metrics.on_step({"step": 1, "loss": None, "grad_norm": float("inf"), "skipped": True})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "loss": None, "grad_norm": None, "skipped": True}


def test_a_line_is_one_write_that_is_there_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch buffering: a killed run would lose steps, or leave parts of many."""
    metrics = MetricsWriter()
    writes: list[bytes] = []
    metrics.on_start(start(tmp_path))
    original = os.write

    def noted(descriptor: int, line: bytes) -> int:
        writes.append(line)
        return original(descriptor, line)

    monkeypatch.setattr(os, "write", noted)
    for step in (1, 2):
        metrics.on_step({"step": step, "loss": 0.5})
        assert len(read_metrics(tmp_path)) == step
    assert [line.endswith(b"}\n") for line in writes] == [True, True]


def test_resuming_leaves_no_gap_and_no_repetition(tmp_path: Path) -> None:
    """Would catch steps that stand twice in the curve after a resume."""
    write(tmp_path, range(1, 8))
    assert truncate_metrics(tmp_path, 4) == 3
    write(tmp_path, range(5, 11))
    assert [record["step"] for record in read_metrics(tmp_path)] == list(range(1, 11))


def test_a_line_cut_by_a_kill_is_removed(tmp_path: Path) -> None:
    """Would catch the next record glued to the half of the last one."""
    write(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
    assert truncate_metrics(tmp_path, 3) == 1
    write(tmp_path, range(3, 5))
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_truncation_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a curve lost because the process died while it was shortened."""
    write(tmp_path, range(1, 6))
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        truncate_metrics(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_new_run_has_nothing_to_truncate(tmp_path: Path) -> None:
    """Would catch a first start that fails for want of a file."""
    assert truncate_metrics(tmp_path, 0) == 0
    assert read_metrics(tmp_path) == []


def test_on_a_full_disk_lines_wait_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a run that a full disk ends, a line that is lost or twice, and one that is cut."""
    writer, write, room = MetricsWriter(), os.write, [True]

    def limited(descriptor: int, content: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[:7])

    monkeypatch.setattr(os, "write", limited)
    writer.on_start(start(tmp_path))
    for step in range(1, 6):
        room[0] = step in (1, 5)
        writer.on_step({"step": step, "loss": 1.0 / step})
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert caplog.text.count("cannot be written") == 1, "said once"
    writer.on_conclude()
    room[0] = False
    writer.on_step({"step": 6, "loss": 0.1})
    with pytest.raises(TrainingError, match="No space left on device; its last 1 lines are lost"):
        writer.on_conclude()
    writer.on_stop("failed", "no room")


def test_a_record_is_amended_and_the_next_one_follows_it(tmp_path: Path) -> None:
    """Would catch values added to another step, and lines that go to the file that was replaced."""
    write(tmp_path, range(1, 4))
    metrics = MetricsWriter()
    metrics.on_start(start(tmp_path, 4))
    metrics.on_amend(3, {"eval/a/b": 0.1, "eval/a/c": float("nan")})
    metrics.on_step({"step": 4, "loss": 0.25})
    metrics.on_stop("done", "")
    first, second, third, fourth = read_metrics(tmp_path)
    assert (first, second) == ({"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5})
    assert third == {"step": 3, "loss": 1 / 3, "eval/a/b": 0.1, "eval/a/c": None}
    assert fourth == {"step": 4, "loss": 0.25}
