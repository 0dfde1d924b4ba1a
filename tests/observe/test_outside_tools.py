import importlib
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.observe.starting import start
from trainer.errors import RecipeError
from trainer.observe import Profiler, RankLog, TensorBoard, WeightsAndBiases

RECORD = {"step": 3, "loss": 2.5, "mfu": None, "grad_norm": float("nan"), "skipped": False}


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    """Would catch curves that stay empty, or that hold nulls as zeros."""
    events_module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = importlib.import_module(events_module).EventAccumulator
    board = TensorBoard()
    board.on_start(start(tmp_path))
    board.on_step(RECORD | {"eval/loss": 4.0})
    board.on_amend(2, {"eval/late": 0.5})
    board.on_sample(3, "The", " end")
    board.on_stop("done", "")
    events = accumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        *("train/loss", "train/skipped"),
        *("eval/loss", "eval/late"),
    }
    (point,) = events.Scalars("train/loss")
    assert (point.step, point.value) == (3, 2.5)
    (late,) = events.Scalars("eval/late")
    assert (late.step, late.value) == (2, 0.5)


def test_what_is_asked_for_and_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a run that silently goes unrecorded."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RecipeError, match=r"observe\.wandb=project: wandb is not installed"):
        WeightsAndBiases("project")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RecipeError, match=r"observe\.tensorboard=false"):
        TensorBoard().on_start(start(tmp_path))


def test_wandb_gets_the_numbers_under_the_runs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a resumed run that begins a second curve, or loses a figure it measures late.

    A resumed session drops what is logged for a step before its next one.
    """
    calls: list[tuple[str, Any]] = []
    axes: dict[str, str] = {}
    session = SimpleNamespace(
        define_metric=lambda name, step_metric: axes.update({name: step_metric}),
        log=lambda values, step=None, commit=None: calls.append(("log", (values, step))),
        finish=lambda exit_code: calls.append(("finish", exit_code)),
    )

    def init(**arguments: Any) -> SimpleNamespace:
        calls.append(("init", arguments))
        return session

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    sent = WeightsAndBiases("project")
    sent.on_start(start(tmp_path / "first run"))
    sent.on_step(RECORD)
    sent.on_amend(3, {"eval/bias/gap": 0.5, "eval/bias/undefined": float("nan")})
    sent.on_step({"step": 4, "eval/loss": 2.0})
    sent.on_stop("stopped", "SIGTERM", 75)
    (_, arguments), logged, late, evaluated, finished = calls
    assert axes == {"eval/*": "evaluated_step"}
    assert late == ("log", ({"eval/bias/gap": 0.5, "evaluated_step": 3}, None))
    assert evaluated == ("log", ({"eval/loss": 2.0, "evaluated_step": 4}, 4))
    assert (arguments["project"], arguments["name"]) == ("project", "first run")
    assert arguments["resume"] == "allow" and json.dumps(arguments["config"])
    assert logged == ("log", ({"loss": 2.5, "skipped": 0.0}, 3))
    assert finished == ("finish", 75)


def traced(folder: Path, first_step: int, steps: range) -> set[str]:
    """The steps whose work is in the trace of a run that goes through `steps`."""
    profiler = Profiler(3, 4)
    profiler.on_start(start(folder, first_step, rank=1))
    for step in steps:
        with torch.profiler.record_function(f"work of step {step}"):
            torch.zeros(1)
        profiler.on_step({"step": step})
    profiler.on_stop("done", "")
    trace = folder / "trace" / "rank-1.json"
    if not trace.exists():
        return set()
    events = json.loads(trace.read_text())["traceEvents"]
    return {e["name"][-1] for e in events if e["name"].startswith("work of step")}


def test_the_trace_holds_exactly_the_steps_asked_for(tmp_path: Path) -> None:
    """Would catch a profile off by one step, or one that runs to the end and fills the disk."""
    folders = [tmp_path / name for name in ("whole", "resumed", "cut", "after")]
    for folder in folders:
        folder.mkdir()
    assert traced(folders[0], 1, range(1, 7)) == {"3", "4"}
    assert traced(folders[1], 4, range(4, 7)) == {"4"}
    assert traced(folders[2], 1, range(1, 4)) == {"3"}
    assert traced(folders[3], 5, range(5, 7)) == set()


def test_each_rank_keeps_its_own_log(tmp_path: Path) -> None:
    """Would catch one rank's lines lost, and a handler that outlives its run."""
    logger = logging.getLogger("trainer.somewhere")
    before = logging.getLogger("trainer").level, logging.getLogger("trainer").handlers[:]
    log = RankLog()
    log.on_start(start(tmp_path, rank=1))
    logger.info("it is %s", "so")
    log.on_stop("done", "all steps")
    logger.info("too late")
    written = (tmp_path / "logs" / "rank-1.log").read_text()
    assert "INFO trainer.somewhere: it is so\n" in written
    assert written.endswith("done: all steps\n")
    assert before == (logging.getLogger("trainer").level, logging.getLogger("trainer").handlers[:])


def test_a_log_says_where_each_start_of_the_run_began(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Would catch a resume that nobody can find in the record, or one that the terminal repeats."""
    for first in (1, 5):
        log = RankLog()
        log.on_start(start(tmp_path, first))
        log.on_stop("stopped", "by SIGTERM")
    lines = (tmp_path / "logs" / "rank-0.log").read_text().splitlines()
    assert [line.partition(" INFO trainer: ")[2] for line in lines] == [
        "begins at step 1 of 10, on 2 ranks",
        "stopped: by SIGTERM",
        "begins at step 5 of 10, on 2 ranks",
        "stopped: by SIGTERM",
    ]
    assert "begins" not in capfd.readouterr().err


def test_a_full_disk_does_not_fill_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Would catch logging's own stack trace, one a line."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "rank-0.log").symlink_to("/dev/full")
    log = RankLog()
    log.on_start(start(tmp_path))
    logging.getLogger("trainer.somewhere").info("it is so")
    assert "Traceback" not in capfd.readouterr().err
