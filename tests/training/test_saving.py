"""Saving does not stop training, and a save that fails does not end it."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

import trainer.checkpoint.background
from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.checkpoint import list_checkpoints, verify_checkpoint
from trainer.checkpoint.files import FileWriter
from trainer.errors import RecipeError
from trainer.observe import read_metrics, read_status
from trainer.recipe import Recipe

KEYS = {"checkpoint__every": 2, "steps": 8}
_LOOKS = 2000


def saved(run: Path) -> list[int]:
    return [one.step for one in list_checkpoints(run) if one.problem is None]


def train_while_writing(recipe: Recipe, until: int) -> tuple[object, bool]:
    """Train where no file of the first checkpoint is written before metrics.jsonl holds a step."""
    write, went_on = FileWriter.write, [True]

    def waiting(writer: FileWriter, content: Any) -> None:
        looks = 0
        while "step-00000002" in str(writer._file.name) and looks < _LOOKS:
            if len(read_metrics(Path(recipe.run))) >= until:
                break
            looks += 1
            time.sleep(0.005)
        went_on[0] &= looks < _LOOKS
        write(writer, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileWriter, "write", waiting)
        return train_here(recipe), went_on[0]


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, corpus: Path) -> None:
    """Catches a loop that waits for the disk, and files that hold a later step's weights."""
    keys = KEYS | {"zero__stage": 1}
    recipe = recipe_of(tmp_path / "run", corpus, **keys, checkpoint__keep=0)
    assert on_ranks(2, train_while_writing, recipe, 3) == [(None, True), (None, True)]
    waited = recipe_of(
        *(tmp_path / "waited", corpus), **keys, checkpoint__keep=0, checkpoint__background=False
    )
    assert on_ranks(2, train_here, waited) == [None, None]
    assert losses(recipe) == losses(waited)
    for step in (2, 4, 6, 8):
        names = [tmp_path / run / f"checkpoints/step-{step:08d}" for run in ("run", "waited")]
        assert verify_checkpoint(names[0]) == []
        ours, theirs = ((one / "rank-00000.safetensors").read_bytes() for one in names)
        assert ours == theirs


def test_how_long_it_took_is_in_the_metrics(tmp_path: Path, corpus: Path) -> None:
    """Catches a stall that nobody sees, also that of the last save, which no step follows."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS, checkpoint__background=False)
    assert on_ranks(1, train_here, recipe) == [None]
    records = {record["step"]: record for record in read_metrics(tmp_path / "run")}
    assert [step for step, one in records.items() if "save_stall_seconds" in one] == [3, 5, 7, 8]
    told = [one for one in records.values() if "saved_step" in one]
    assert [one["saved_step"] for one in told] == [2, 4, 6, 8]
    for one in told:
        assert one["save_seconds"] > 0 and one["save_mib_per_second"] > 0


def train_with_full_disk(recipe: Recipe, steps: list[int]) -> object:
    """Train where no tensor file of the checkpoints of some steps finds room."""
    write = FileWriter.write

    def full(writer: FileWriter, content: Any) -> None:
        name = str(writer._file.name)
        if "rank-" in name and any(f"step-{step:08d}" in name for step in steps):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileWriter, "write", full)
        patch.setattr(trainer.checkpoint.background, "RETRIES_SECONDS", (0.0,))
        return train_here(recipe)


def test_a_save_that_fails_does_not_end_the_run(tmp_path: Path, corpus: Path) -> None:
    """Catches a month that ends for want of room that tomorrow has."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS, zero__stage=1)
    assert on_ranks(2, train_with_full_disk, recipe, [4]) == [None, None]
    assert len(losses(recipe)) == 8 and saved(tmp_path / "run") == [2, 6, 8]
    log = (tmp_path / "run" / "logs" / "rank-0.log").read_text()
    assert log.count("could not save") == 2, "once tried again, and once given up"
    assert "it is tried again in 0 s" in log and "intact; training goes on" in log
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        f"step-{step:08d}" for step in (2, 6, 8)
    ]


def test_the_last_save_that_fails_is_an_error(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that says "done" and has left nothing."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS)
    ((kind, line),) = on_ranks(1, train_with_full_disk, recipe, [8])
    assert kind == "TrainingError" and "No space left on device" in line
    status = read_status(tmp_path / "run") or {}
    assert (status["state"], status["exit_code"]) == ("failed", 4)
    assert saved(tmp_path / "run") == [2, 4, 6]
    assert on_ranks(1, train_here, recipe) == [None]
    assert saved(tmp_path / "run")[-1] == 8


def test_milestones_stay(tmp_path: Path, corpus: Path) -> None:
    """Catches a rotation that removes what somebody wants to look at later."""
    keys = KEYS | {"checkpoint__keep": 1, "checkpoint__keep_every": 4}
    recipe = recipe_of(tmp_path / "run", corpus, **keys)
    assert on_ranks(1, train_here, recipe) == [None]
    assert saved(tmp_path / "run") == [4, 8]


@pytest.mark.parametrize(("every", "milestones"), [(2, 3), (0, 4), (4, 2)])
def test_milestones_that_are_never_saved_are_refused(
    tmp_path: Path, every: int, milestones: int
) -> None:
    """Catches a policy that keeps nothing, found when somebody looks for it."""
    with pytest.raises(RecipeError, match=r"checkpoint\.keep_every: \d is no multiple"):
        recipe_of(
            *(tmp_path / "run", tmp_path),
            checkpoint__every=every,
            checkpoint__keep_every=milestones,
        )


def test_steps_that_the_metrics_lack_are_told(tmp_path: Path, corpus: Path) -> None:
    """Catches a hole in the curve that nobody hears of: its lines died with a process."""
    recipe = recipe_of(tmp_path / "run", corpus, steps=4)
    assert on_ranks(1, train_here, recipe) == [None]
    path = tmp_path / "run/metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    longer = recipe_of(tmp_path / "run", corpus, steps=5, schedule__length=4)
    assert on_ranks(1, train_here, longer) == [None]
    logs = "".join(one.read_text() for one in (tmp_path / "run/logs").glob("*.log"))
    assert "metrics.jsonl has nothing of steps 3 to 4" in logs
