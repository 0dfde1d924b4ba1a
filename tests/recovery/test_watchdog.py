"""The watch of ranks without a launcher; two ranks are two watchdogs at one dictionary."""

import os
import signal
import threading
from pathlib import Path

import pytest

from trainer.recipe.checkpoint import RecoverySection
from trainer.recovery import Heartbeat
from trainer.recovery.heartbeat import Beat
from trainer.recovery.lock import LAUNCHER
from trainer.recovery.status_file import read_status
from trainer.recovery.watchdog import Published, Watchdog, frozen_line, judged

PATIENCE = RecoverySection(patience_seconds=0.4)


class DictStore(dict[str, str]):
    """As much of torch.distributed's store as a watchdog needs."""

    def set(self, key: str, value: str) -> None:
        """Publish."""
        self[key] = value

    def get(self, key: str) -> bytes:  # type: ignore[override]
        """Read."""
        return self[key].encode()

    def check(self, keys: list[str]) -> bool:
        """Whether all are there."""
        return all(key in self for key in keys)


def published(rank: int, count: int, **more: object) -> Published:
    """A rank that says where it is."""
    known: dict[str, object] = {"ticks": 9, "pid": 100 + rank, "host": "node7"}
    known |= {"collective": "all_reduce", "line": "trainer/run.py:1 (count)"}
    return Published(rank=rank, beat=Beat(count, 5, "update"), **(known | more))  # type: ignore[arg-type]


def test_the_frozen_rank_is_the_silent_one_or_the_one_that_waits_for_nobody() -> None:
    """Catches the rank that noticed blamed, or the first of several that only wait."""
    waits = {rank: published(rank, 20) for rank in range(3)}
    assert judged(waits | {3: published(3, 20)}, [3]).rank == 3
    assert judged(waits | {3: published(3, 20, collective=None)}, []).rank == 3
    assert judged(waits | {3: published(3, 18)}, []).rank == 3
    line = frozen_line(waits | {3: published(3, 18)}, published(3, 18), 61.2, silent=True)
    assert line.startswith("rank 3 (process 103 on node7) is frozen in update of step 5: no progr")
    assert "for 61 s, its process is stopped or gone; ranks 0, 1, 2 wait for it in all_re" in line


def test_a_silent_rank_is_named_ended_and_told_in_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches a job under torchrun that waits half an hour for a rank that is stopped."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv(LAUNCHER, raising=False)
    (tmp_path / "logs").mkdir()
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    store, ended = DictStore(), threading.Event()
    monkeypatch.setenv("RANK", "1")
    other = Heartbeat()
    other.beat("update", 3)
    silent = Watchdog(store, other, PATIENCE, tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: pid)
    silent._publish()  # and nothing more
    monkeypatch.undo()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    heartbeat = Heartbeat()
    for step in range(1, 4):
        heartbeat.beat("counting", step)
    codes = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()
        raise RuntimeError("the process would be gone")

    with Watchdog(store, heartbeat, PATIENCE, tmp_path, end):
        ended.wait()
    assert codes == [4]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    status = read_status(tmp_path) or {}
    assert (status["state"], status["exit_code"], status["rank"]) == ("failed", 4, 1)
    assert f"process {pid}" in status["reason"] and "is frozen" in status["reason"]
    assert "is frozen" in capfd.readouterr().err
    (stack,) = (tmp_path / "logs").iterdir()
    assert "test_watchdog.py" in stack.read_text()


def test_where_a_launcher_watches_there_is_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches two judges of one run, and a run of one rank that watches itself."""
    for name, value in (("WORLD_SIZE", "2"), (LAUNCHER, "1")):
        monkeypatch.setenv(name, value)
    store = DictStore()
    with Watchdog(store, Heartbeat(), PATIENCE, tmp_path) as watchdog:
        assert watchdog._thread is None
    monkeypatch.delenv(LAUNCHER)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with Watchdog(store, Heartbeat(), PATIENCE, tmp_path) as watchdog:
        assert watchdog._thread is None


class LostStore(DictStore):
    """A store whose node is gone."""

    def set(self, key: str, value: str) -> None:
        """Fail as torch's does."""
        raise RuntimeError("Broken pipe")


def test_ranks_whose_store_is_gone_do_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a node that lost its power: no connection is closed, and the others wait for it."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv(LAUNCHER, raising=False)
    ended, codes = threading.Event(), []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    heartbeat = Heartbeat()
    heartbeat.beat("counting", 3)
    with Watchdog(LostStore(), heartbeat, PATIENCE, tmp_path, end):
        ended.wait()
    assert set(codes) == {4}
