"""What goes wrong in a run is one clear line, on all ranks, and leaves what was there."""

import shutil
from pathlib import Path

import pytest

from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.checkpoint import latest_checkpoint, verify_checkpoint
from trainer.observe import read_metrics, read_status
from trainer.recipe import Recipe
from trainer.recovery import RunLock


def error_of(ranks: int, recipe: Recipe, force: bool = False) -> tuple[str, str]:
    """The one error that every rank ended with."""
    errors = on_ranks(ranks, train_here, recipe, force)
    assert len(set(errors)) == 1
    assert errors[0] is not None
    assert "\n" not in errors[0][1]
    return errors[0]


def test_non_finite_steps_are_skipped_and_then_end_the_run(tmp_path: Path, corpus: Path) -> None:
    """Catches a skip on one rank only (the ranks would part), and weights spoilt by NaN."""
    good = recipe_of(tmp_path / "run", corpus, steps=2, zero__stage=1)
    on_ranks(2, train_here, good)
    spoilt = recipe_of(tmp_path / "run", corpus, steps=20, zero__stage=1, optimizer__lr=1e30)
    kind, line = error_of(2, spoilt, force=True)
    assert kind == "TrainingError"
    assert "5 steps in a row" in line
    records = read_metrics(tmp_path / "run")
    assert [record["skipped"] for record in records[-5:]] == [True] * 5
    assert all(record["loss"] is None for record in records[-5:])
    tokens = [record["tokens"] for record in records]
    assert tokens == sorted(set(tokens)), "a skipped step consumes its batch"
    saved = latest_checkpoint(tmp_path / "run")
    assert saved is not None and saved.name == "step-00000002"
    assert verify_checkpoint(saved) == []
    status = read_status(tmp_path / "run")
    assert status is not None and (status["state"], status["exit_code"]) == ("failed", 4)


def test_two_runs_never_write_one_directory(tmp_path: Path, corpus: Path) -> None:
    """Catches metrics of two jobs mixed in one file."""
    recipe = recipe_of(tmp_path / "run", corpus)
    with RunLock(tmp_path / "run"):
        kind, line = error_of(2, recipe)
    assert kind == "RecipeError"
    assert "being written by process" in line
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_resume_may_not_change_what_is_learned_unasked(tmp_path: Path, corpus: Path) -> None:
    """Catches half a curve at one learning rate and half at another."""
    on_ranks(1, train_here, recipe_of(tmp_path / "run", corpus, steps=2))
    changed = recipe_of(tmp_path / "run", corpus, steps=4, optimizer__lr=3e-3)
    kind, line = error_of(1, changed)
    assert kind == "RecipeError"
    assert "optimizer.lr" in line and "--force" in line
    assert len(losses(changed)) == 2
    assert on_ranks(1, train_here, changed, True) == [None]
    assert len(losses(changed)) == 4


def test_a_longer_run_resumes_without_force(tmp_path: Path, corpus: Path) -> None:
    """Catches a check so strict that a run cannot be prolonged."""
    on_ranks(1, train_here, recipe_of(tmp_path / "run", corpus, steps=2))
    longer = recipe_of(tmp_path / "run", corpus, steps=4)
    assert on_ranks(1, train_here, longer) == [None]
    assert len(losses(longer)) == 4


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, corpus: Path) -> None:
    """Catches weights read into the wrong places."""
    on_ranks(1, train_here, recipe_of(tmp_path / "first", corpus, steps=1))
    other = recipe_of(
        tmp_path / "second", corpus, model__hidden=32, init_from=str(tmp_path / "first")
    )
    kind, line = error_of(2, other)
    assert kind == "CheckpointError"
    assert "another model" in line and "[384, 64] there and [384, 32] here" in line


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, corpus: Path) -> None:
    """Catches bits that rotted on the disk."""
    on_ranks(1, train_here, recipe_of(tmp_path / "run", corpus, steps=1))
    saved = latest_checkpoint(tmp_path / "run")
    assert saved is not None
    weights = saved / "rank-00000.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    kind, line = error_of(2, recipe_of(tmp_path / "run", corpus, steps=2))
    assert kind == "CheckpointError"
    assert weights.name in line


def test_a_shard_altered_under_a_run_is_found(tmp_path: Path, corpus: Path) -> None:
    """Catches training on data that is not what the manifest says.

    trainer/README.md, invariant 7.
    """
    recipe = recipe_of(tmp_path / "first", corpus, steps=1)
    on_ranks(1, train_here, recipe)
    copy = tmp_path / "shards"
    shutil.copytree(corpus / "shards", copy)
    for shard in (copy / "train").glob("*.tar"):
        content = bytearray(shard.read_bytes())
        content[600] ^= 1
        shard.write_bytes(content)
    mixture = [{"corpus": str(copy)}]
    kind, line = error_of(1, recipe_of(tmp_path / "second", corpus, data__mixture=mixture))
    assert kind == "DataError"
    assert "shard-0000" in line


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"parallel__tensor": 4}, "kv_heads"),
        ({"parallel__pipeline": 3}, "layers"),
        ({"batch__sequences": 7}, "batch.sequences"),
        ({"model__vocab": 128}, "model.vocab"),
        ({"tokenizer": "/nowhere"}, "/nowhere"),
        ({"init_from": "/nowhere"}, "/nowhere"),
    ],
    ids=str,
)
def test_impossible_recipes_are_one_line(
    tmp_path: Path, corpus: Path, keys: dict[str, object], words: str
) -> None:
    """Catches a stack trace where a person needs a sentence."""
    try:
        line = error_of(2, recipe_of(tmp_path / "run", corpus, **keys))[1]
    except Exception as error:
        line = str(error)
    assert words in line
    assert "\n" not in line
