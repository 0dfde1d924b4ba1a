"""A run whose machines' own disks hold what its run directory has no room for."""

import errno
import os
from pathlib import Path

import pytest
import torch

import trainer.checkpoint.background
from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.checkpoint import list_checkpoints, open_checkpoint
from trainer.checkpoint.files import FileWriter
from trainer.observe import read_metrics
from trainer.recipe import Recipe


def train_without_room(recipe: Recipe, folder: str) -> object:
    """Train where the tensor files of a step find no room in the run directory."""
    write = FileWriter.write

    def full(writer: FileWriter, content: bytes | memoryview) -> None:
        if folder in str(writer._file.name) and str(writer._file.name).startswith(recipe.run):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.checkpoint.background, "RETRIES_SECONDS", (0.0, 0.0))
        patch.setattr(FileWriter, "write", full)
        return train_here(recipe)


def test_a_run_loses_nothing_to_a_full_run_directory(tmp_path: Path, corpus: Path) -> None:
    """Catches steps that are made twice, though their state lay safe, and a lost average."""
    average = {"kind": "ema", "decay": 0.5}
    keys = {"checkpoint__average": average, "steps": 6, "zero__stage": 1}
    plain = recipe_of(tmp_path / "plain", corpus, **keys)
    assert on_ranks(2, train_here, plain) == [None, None]
    recipe = recipe_of(
        *(tmp_path / "run", corpus), **keys, checkpoint__local=str(tmp_path / "disk")
    )
    errors = on_ranks(2, train_without_room, recipe, "step-00000006")
    assert all("the next start with resume=auto takes it" in str(error) for error in errors)
    assert list_checkpoints(tmp_path / "run") == []
    whole = {path.parents[1] for path in (tmp_path / "disk").rglob("checkpoint.json")}
    assert {path.parent.name == "average" for path in whole} == {True, False}
    refused = recipe.model_copy(update={"resume": str(tmp_path / "run/checkpoints/step-00000004")})
    kinds = {error[0] for error in on_ranks(2, train_here, refused)}
    assert kinds == {"CheckpointError"} and all(path.is_dir() for path in whole)
    made = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert on_ranks(2, train_here, recipe) == [None, None]
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == made, "no step is made twice"
    for folder in ("checkpoints", "average/checkpoints"):
        name = f"{folder}/step-00000006"
        ours, theirs = (open_checkpoint(tmp_path / run / name) for run in ("run", "plain"))
        assert ours.keys() == theirs.keys()
        for key in ours.keys():  # noqa: SIM118
            assert torch.equal(ours.read(key), theirs.read(key))
    assert losses(recipe) == losses(plain)
    assert len(read_metrics(tmp_path / "run")) == 6
    assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("settle", "settled"), [(1, True), (2, False)])
def test_what_comes_home_has_settled_where_its_steps_were_applied(
    tmp_path: Path, corpus: Path, settle: int, settled: bool
) -> None:
    """Catches a checkpoint that counts as good as its own save failed."""
    keys = {"checkpoint__every": 2, "checkpoint__save_final": False, "recovery__settle": settle}
    local = {"checkpoint__local": str(tmp_path / "disk")}
    recipe = recipe_of(tmp_path / "run", corpus, **keys, **local, steps=3)
    assert on_ranks(1, train_without_room, recipe, "step-00000002") == [None]
    assert list_checkpoints(tmp_path / "run") == []
    longer = recipe_of(tmp_path / "run", corpus, **keys, **local, steps=5, schedule__length=3)
    assert on_ranks(1, train_without_room, longer, "step-00000004") == [None]
    (home,) = list_checkpoints(tmp_path / "run")
    assert (home.step, home.settled) == (2, settled)


def test_a_save_that_never_came_home_leaves_no_mark(tmp_path: Path, corpus: Path) -> None:
    """Catches marks of checkpoints that are nowhere, which pile up in a month."""
    local = {"checkpoint__local": str(tmp_path / "disk")}
    recipe = recipe_of(tmp_path / "run", corpus, **local, checkpoint__every=2, steps=6)
    assert on_ranks(2, train_without_room, recipe, "step-00000002") == [None, None]
    assert [one.step for one in list_checkpoints(tmp_path / "run")] == [4, 6]
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == {"step-00000004", "step-00000006"}
    assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []
