"""The launcher's eye on its ranks; the ranks are sleeping processes without a model."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import overseer as overseer_module
from launch.overseer import RunOverseer
from launch.ranks import run_ranks
from launch.standing import Standing, culprit, told
from trainer.errors import RankFailed, StopRequested
from trainer.recipe.checkpoint import RecoverySection
from trainer.recovery import Heartbeat
from trainer.recovery import patience as patience_module
from trainer.recovery.heartbeat import Beat
from trainer.recovery.stacks import write_stack_when_asked


def watched(
    folder: Path, worker: Callable[[Heartbeat, int], int], ranks: int = 2, **recovery: float
) -> int:
    """Run ranks under an overseer; each gets its heartbeat and its number."""

    def rank() -> int:
        write_stack_when_asked()
        return worker(Heartbeat.of_environment(), int(os.environ["RANK"]))

    section = RecoverySection.model_validate(recovery)
    overseer = RunOverseer(section, folder, folder / "logs", restarts=0)
    return run_ranks(rank, ranks, "cpu", overseer=overseer)


def meet(folder: Path, rank: int) -> None:
    """Wait until both ranks are here, as one must not signal before the other can take it."""
    (folder / f"here-{rank}").touch()
    while len(list(folder.glob("here-*"))) < 2:
        os.sched_yield()


def step(heartbeat: Heartbeat, number: int) -> None:
    """A quick step."""
    for phase in ("data", "counting", "forward and backward", "update"):
        heartbeat.beat(phase, number)
    time.sleep(0.05)  # longer than two looks lie apart on an idle machine


def test_a_frozen_rank_is_named_with_its_step_state_and_stack(tmp_path: Path) -> None:
    """Catches a run that waits for a stopped process until somebody looks."""

    def worker(heartbeat: Heartbeat, rank: int) -> int:
        for number in range(1, 5):
            step(heartbeat, number)
        heartbeat.beat("forward and backward", 5)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return waits_for_the_others()

    (tmp_path / "logs").mkdir()
    with pytest.raises(RankFailed) as failed:
        watched(tmp_path, worker, patience_seconds=2.0)
    line = str(failed.value)
    assert failed.value.rank == 1
    assert line.startswith("rank 1 (process ") and " is frozen in forward and backward" in line
    assert "step 5" in line and "stopped by a signal" in line
    (stacks,) = (tmp_path / "logs").iterdir()
    text = stacks.read_text()
    assert str(stacks) in line and "rank 0, process" in text and "rank 1, process" in text
    assert "waits_for_the_others" in text and "test_overseer.py" in text


def waits_for_the_others() -> int:
    """As a rank in a collective does."""
    while True:
        signal.pause()


def test_a_rank_that_takes_its_time_at_work_is_not_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a long evaluation, or the build of a corpus, ended as if it hung."""

    def worker(heartbeat: Heartbeat, rank: int) -> int:
        time.sleep(0.6)  # its start
        for number in range(1, 5):
            step(heartbeat, number)
        heartbeat.beat("evaluation", 4)
        for _ in range(300):  # seconds
            sum(range(1_000_000))
        return 0

    monkeypatch.setattr(patience_module, "SLOWER", 1.5)
    assert watched(tmp_path, worker, ranks=1, patience_seconds=1.0) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stop_ends_ranks_that_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Catches a SIGTERM that a rank in a collective never hears, and a job killed unheard."""
    monkeypatch.setattr(overseer_module, "STOP_SECONDS", 0.3)

    def worker(heartbeat: Heartbeat, rank: int) -> int:
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, lambda *_: None)
        heartbeat.beat("counting", 3)
        meet(tmp_path, rank)
        if rank == 0:
            os.kill(os.getppid(), number)
        return waits_for_the_others()

    with pytest.raises(StopRequested) as stopped:
        watched(tmp_path, worker)
    assert stopped.value.signal == number.name
    assert "made no progress" in str(stopped.value) and "of step 3" in str(stopped.value)


def test_a_stop_waits_for_ranks_that_make_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a long save cut off, of a run that was about to end well."""
    monkeypatch.setattr(overseer_module, "STOP_SECONDS", 2.0)

    def worker(heartbeat: Heartbeat, rank: int) -> int:
        signal.signal(signal.SIGTERM, lambda *_: None)
        meet(tmp_path, rank)
        if rank == 0:
            os.kill(os.getppid(), signal.SIGTERM)
        for _ in range(60):
            heartbeat.beat("save", 3)
            time.sleep(0.05)
        return 0

    assert watched(tmp_path, worker) == 0


def test_two_interrupts_end_ranks_that_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a person who cannot get out."""
    monkeypatch.setattr(overseer_module, "HASTE_SECONDS", 0.2)

    def worker(heartbeat: Heartbeat, rank: int) -> int:
        signal.signal(signal.SIGINT, lambda *_: None)
        meet(tmp_path, rank)
        if rank == 0:
            for _ in range(2):
                os.kill(os.getppid(), signal.SIGINT)
                time.sleep(0.2)
        return waits_for_the_others()

    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path, worker)


@pytest.mark.parametrize("memory", [False, True])
def test_a_killed_rank_is_named_with_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    """Catches the kernel's killer told as a person's, and the other way round."""
    counted = iter([3, 4 if memory else 3])
    monkeypatch.setattr(overseer_module, "_killed_for_memory", lambda: next(counted))

    def worker(heartbeat: Heartbeat, rank: int) -> int:
        heartbeat.beat("update", 6)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return waits_for_the_others()

    with pytest.raises(RankFailed, match="was ended by SIGKILL in update of step 6") as failed:
        watched(tmp_path, worker)
    assert (failed.value.rank, failed.value.signal) == (1, "SIGKILL")
    assert ("out of memory" in str(failed.value)) == memory


def test_a_rank_that_ends_without_a_word_is_told_so(tmp_path: Path) -> None:
    """Catches an exit code of somebody's library passed on as ours."""

    def worker(heartbeat: Heartbeat, rank: int) -> int:
        heartbeat.beat("data", 2)
        os._exit(7)

    with pytest.raises(RankFailed, match="in data of step 2 with exit code 7"):
        watched(tmp_path, worker, ranks=1)


def test_a_rank_has_stepped_once_it_is_two_steps_behind_its_first_sign(tmp_path: Path) -> None:
    """Catches a place left out whose rank trained, and one kept whose rank dies in each first step.

    It goes on from step 6, of which its first sign may be.
    """
    overseer = RunOverseer(RecoverySection(), tmp_path, tmp_path, restarts=1)
    overseer.environment(0)
    heartbeat = Heartbeat(tmp_path / "heartbeat-0")
    found = []
    for phase, number in (("load", 0), ("evaluation", 6), ("update", 7), ("data", 8)):
        heartbeat.beat(phase, number)
        found.append(overseer.stepped(0))
    assert found == [False, False, False, True]
    assert overseer.stepped(None), "of none it is not said that it cannot start"


def standing(rank: int, step: int, count: int, **more: str | None) -> Standing:
    """A rank that stands somewhere."""
    known = {"state": None, "collective": None, "line": "a.py:1 (f)", "stack": ""} | more
    return Standing(rank, 100 + rank, Beat(count, step, "update"), **known)  # type: ignore[arg-type]


def test_the_rank_that_the_others_wait_for_is_found() -> None:
    """Catches a rank blamed that only waits, as all of them seem to."""
    waits = [standing(rank, 5, 20, collective="all_reduce") for rank in range(3)]
    outside = standing(3, 5, 20)
    assert culprit([*waits, outside]) == outside
    assert "ranks 0, 1, 2 wait for it in all_reduce" in told([*waits, outside], outside)
    stopped = standing(3, 6, 24, state="stopped by a signal")
    assert culprit([*waits, outside, stopped]) == stopped
    behind = standing(3, 4, 16, collective="all_reduce")
    assert culprit([*waits, behind]) == behind
    other = standing(3, 5, 20, collective="broadcast")
    assert culprit([*waits, other]) == other
