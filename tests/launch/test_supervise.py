"""A run's launcher, from the lock to the last word; the ranks do nothing but end somehow."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.places import PLACE
from launch.supervise import supervise
from tests.checkpoint.saving import save
from tests.training.runs import recipe_of
from trainer.errors import (
    DataError,
    DeviceMissing,
    LyceumError,
    RankFailed,
    RecipeError,
    StopRequested,
    TrainingError,
)
from trainer.recipe import Recipe
from trainer.recovery import Heartbeat, RunLock
from trainer.recovery.status_file import RESTARTS, read_status, status_of, write_status


def launched(
    run: Path, end: Callable[[int], int], ranks: int = 2, **recovery: int
) -> tuple[LyceumError | int, dict[str, object]]:
    """How a run ended whose ranks begin, and then do what `end` does with their number; the last
    status.
    """
    keys = {f"recovery__{name}": value for name, value in recovery.items()}
    recipe = recipe_of(run, run.parent, **keys)

    def worker(_recipe: Recipe) -> int:
        number = int(os.environ["RANK"])
        Heartbeat.of_environment().beat("update", 3)
        if number == 0:
            write_status(run, status_of("running", 2))
            (run / "metrics.jsonl").write_text('{"step": 2}\n')
        return end(number)

    try:
        ended: LyceumError | int = supervise(recipe, ranks, "cpu", worker)
    except LyceumError as error:
        ended = error
    return ended, read_status(run) or {}


def killed(number: int) -> int:
    """What a rank does that is killed: the second one."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def raising(error: Exception) -> Callable[[int], int]:
    """A rank that ends by an error."""

    def end(_number: int) -> int:
        raise error

    return end


def test_every_end_is_told_with_state_code_rank_signal_step_and_checkpoint(tmp_path: Path) -> None:
    """Catches a status from which a scheduler resumes what failed, or gives up what may go on."""
    save(tmp_path / "run", 2)
    known = {"step": 2, "checkpoint": "step-00000002", "restarts": 0, "pid": os.getpid()}

    ended, status = launched(tmp_path / "run", lambda number: 0)
    assert ended == 0
    assert status.items() >= (known | {"state": "done", "exit_code": 0, "error": None}).items()

    ended, status = launched(tmp_path / "run", killed)
    assert isinstance(ended, RankFailed)
    told = {"state": "failed", "exit_code": 4, "error": "RankFailed", "rank": 1}
    assert status.items() >= (known | told | {"signal": "SIGKILL"}).items()
    assert status["reason"] == str(ended) and "of step 3" in str(ended)

    ended, status = launched(tmp_path / "run", raising(DataError("a shard is gone")))
    told = {"state": "failed", "exit_code": 3, "error": "DataError", "reason": "a shard is gone"}
    assert status.items() >= (known | told).items()

    stop = StopRequested("it was asked to stop")
    stop.signal = "SIGTERM"
    ended, status = launched(tmp_path / "run", raising(stop))
    told = {"state": "stopped", "exit_code": 75, "error": None, "signal": "SIGTERM", "rank": None}
    assert status.items() >= (known | told).items()


def test_ranks_are_started_again_as_often_as_allowed(tmp_path: Path) -> None:
    """Catches a run that a person must start again at night, or that is started for ever."""

    def fails_twice(number: int) -> int:
        starts = tmp_path / f"starts-{number}"
        with starts.open("a") as file:
            file.write(os.environ[RESTARTS])
        return killed(number) if len(starts.read_text()) < 3 else 0

    ended, status = launched(tmp_path / "run", fails_twice, restarts=1)
    assert isinstance(ended, RankFailed) and status["restarts"] == 1
    assert (tmp_path / "starts-1").read_text() == "01"
    for path in tmp_path.glob("starts-*"):
        path.unlink()
    ended, status = launched(tmp_path / "run", fails_twice, restarts=5)
    assert ended == 0 and status["restarts"] == 2
    log = (tmp_path / "run" / "logs" / "launcher.log").read_text()
    assert "restart 1 of 5" in log and "restart 2 of 5" in log and "SIGKILL" in log


def test_a_stop_is_not_forgotten_where_a_rank_fails_too(tmp_path: Path) -> None:
    """Catches a run that a scheduler wants gone, and that is begun again as one rank was killed."""

    def asks_and_dies(number: int) -> int:
        if number == 1:
            os.kill(os.getppid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        return signal.pause() or 0

    ended, status = launched(tmp_path / "run", asks_and_dies, restarts=3)
    assert isinstance(ended, StopRequested)
    told = {"state": "stopped", "exit_code": 75, "signal": "SIGUSR1", "restarts": 0}
    assert status.items() >= told.items()
    assert "SIGKILL" in str(status["reason"])


def test_a_launcher_without_its_log_says_its_last_word(tmp_path: Path) -> None:
    """Catches the stack trace of a log file in the place of the line that matters."""
    run = tmp_path / "run"

    def dies(number: int) -> int:
        shutil.rmtree(run / "logs", ignore_errors=True)
        return killed(number)

    ended, status = launched(run, dies, restarts=1)
    assert isinstance(ended, RankFailed) and status["exit_code"] == 4 and status["restarts"] == 1


def test_a_failure_in_a_folder_that_was_taken_away_is_told_so(tmp_path: Path) -> None:
    """Catches a run that is begun again where nothing is left of it."""
    run = tmp_path / "run"

    def removes(number: int) -> int:
        if number == 0:
            shutil.rmtree(run)
            os.kill(os.getpid(), signal.SIGKILL)
        return signal.pause() or 0

    ended, status = launched(run, removes, restarts=3)
    assert type(ended) is TrainingError and "was removed or renamed" in str(ended)
    assert "SIGKILL" in str(ended) and not run.exists() and status == {}


@pytest.mark.parametrize("error", [DataError("bad"), TrainingError("not finite")], ids=str)
def test_what_would_fail_again_is_not_begun_again(tmp_path: Path, error: LyceumError) -> None:
    """Catches a bad shard that is read until the restarts are used up."""
    ended, status = launched(tmp_path / "run", raising(error), restarts=5)
    assert str(ended) == str(error) and status["restarts"] == 0


def test_a_recipe_that_is_refused_leaves_the_status_of_the_run_before(tmp_path: Path) -> None:
    """Catches a run that was done and says failed, as somebody mistyped a key afterwards."""
    run = tmp_path / "run"
    launched(run, lambda number: 0)

    def refuses(_recipe: Recipe) -> int:
        raise RecipeError("resuming would change what is learned")

    with pytest.raises(RecipeError):
        supervise(recipe_of(run, tmp_path), 1, "cpu", refuses)
    assert (read_status(run) or {})["state"] == "done"


def test_a_run_that_another_writes_is_left_alone(tmp_path: Path) -> None:
    """Catches a second launcher that writes "failed" over the first one's "running"."""
    run = tmp_path / "run"
    pid = os.fork()
    if pid == 0:
        with RunLock(run):
            write_status(run, status_of("running", 9))
            (tmp_path / "held").touch()
            signal.pause()
    while not (tmp_path / "held").exists():
        os.sched_yield()
    try:
        with pytest.raises(RecipeError, match="being written by process"):
            supervise(recipe_of(run, tmp_path), 1, "cpu", lambda _recipe: 0)
        assert (read_status(run) or {})["state"] == "running"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_run_without_its_folder_is_never_done(tmp_path: Path) -> None:
    """Catches exit code 0 for a run of which nothing is left."""
    run = tmp_path / "run"

    def removes(number: int) -> int:
        if number == 0:
            shutil.rmtree(run)
        return 0

    ended, status = launched(run, removes)
    assert isinstance(ended, TrainingError) and ended.exit_code == 4
    assert "was removed or renamed" in str(ended) and status == {}


def test_the_next_start_says_that_the_launcher_before_was_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a machine that went down in the night and left no trace."""
    run = tmp_path / "run"
    run.mkdir()
    write_status(run, status_of("running", 2) | {"pid": 4242})
    with caplog.at_level(logging.WARNING):
        assert launched(run, lambda number: 0)[0] == 0
    assert any("process 4242" in line and "was killed" in line for line in caplog.messages)
    assert "process 4242" in (run / "logs" / "launcher.log").read_text()


def test_the_trace_of_a_fault_is_kept_in_its_ranks_log(tmp_path: Path) -> None:
    """Catches a bug that one line cannot explain, and of which nothing else is left."""
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    ended, _ = launched(run, raising(RankFailed("a fault")), ranks=1)
    assert isinstance(ended, RankFailed)
    assert "RankFailed: a fault" in (run / "logs" / "rank-0.log").read_text()
    assert json.loads((run / "status.json").read_text())["rank"] == 0


def test_a_place_where_no_rank_starts_is_left_out(tmp_path: Path) -> None:
    """Catches a run on four devices that ends as one of them is dead."""

    def fails_at_place_1(_number: int) -> int:
        with (tmp_path / f"start-{os.environ[RESTARTS]}").open("a") as file:
            file.write(os.environ[PLACE])
        if os.environ[PLACE] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def starts() -> list[str]:
        return ["".join(sorted(path.read_text())) for path in sorted(tmp_path.glob("start-*"))]

    ended, status = launched(tmp_path / "run", fails_at_place_1, 4, restarts=5, minimum_replicas=2)
    assert ended == 0 and status["restarts"] == 2
    assert starts()[2] == "02", "four micro-batches are not shared by three"
    log = (tmp_path / "run" / "logs" / "launcher.log").read_text()
    assert "replicas that train: 2, on 2 of 4 places; left out: place 1" in log

    ended, status = launched(tmp_path / "few", fails_at_place_1, 4, restarts=5, minimum_replicas=4)
    assert isinstance(ended, RankFailed) and ended.rank == 1 and status["restarts"] == 1
    assert "SIGKILL" in str(ended) and "4 replicas x 1 ranks are 4, and there are 3" in str(ended)
    ended, status = launched(tmp_path / "off", fails_at_place_1, 4, restarts=2)
    assert (
        isinstance(ended, RankFailed) and status["restarts"] == 2 and "there are" not in str(ended)
    )


def test_a_device_that_is_gone_at_a_restart_ends_no_run_that_may_shrink(tmp_path: Path) -> None:
    """Catches a GPU that fell off its bus told as too many ranks, or left out where a person began
    too many.
    """

    def has_none(number: int) -> int:
        if os.environ[PLACE] != "3" or os.environ[RESTARTS] == "0":
            return killed(number) if os.environ[RESTARTS] == "0" else 0
        raise DeviceMissing("local rank 3 has no GPU")

    ended, status = launched(tmp_path / "run", has_none, 4, restarts=5, minimum_replicas=1)
    assert ended == 0 and status["restarts"] == 2

    def never(_number: int) -> int:
        raise DeviceMissing("local rank 3 has no GPU")

    ended, status = launched(tmp_path / "many", never, 4, restarts=5, minimum_replicas=1)
    assert isinstance(ended, DeviceMissing) and status["restarts"] == 0 and status["exit_code"] == 6
