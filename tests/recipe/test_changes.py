"""Which changes of a recipe a resume must not make silently."""

from pathlib import Path

import pytest

from tests.recipe.recipes import changed
from trainer.recipe import learning_changes


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("model.layers=2", "model.layers"),
        ("model.rope_scaling.factor=8.0", "model.rope_scaling.factor"),
        ("model.window=8", "model.window"),
        ("loss.z=1e-4", "loss.z"),
        ("seed=5", "seed"),
        ("batch.sequences=16", "batch.sequences"),
        ("optimizer.lr=1e-3", "optimizer.lr"),
        ("sequence_length=64", "sequence_length"),
        ("precision=bf16", "precision"),
        ("tokenizer=somewhere", "tokenizer"),
        ("data.packing=none", "data.packing"),
        ("data.mixture=[{corpus: a}]", "data.mixture"),
        ("corpus.packages=[topics]", "corpus.packages"),
        ("preference.beta=0.5", "preference.beta"),
        ("conversations.system=Be short.", "conversations.system"),
    ],
)
def test_what_changes_learning_is_named(tmp_path: Path, override: str, name: str) -> None:
    """Catches a resumed run that learns something else under the same name."""
    names = [key for key, _, _ in learning_changes(changed(tmp_path), changed(tmp_path, override))]
    assert name in names


def test_old_and_new_value_are_given(tmp_path: Path) -> None:
    """Catches a difference printed the wrong way round."""
    changes = learning_changes(changed(tmp_path), changed(tmp_path, "seed=5"))
    assert changes == [("seed", 1234, 5)]


@pytest.mark.parametrize(
    "overrides",
    [
        ["run=elsewhere"],
        ["parallel.tensor=2", "parallel.sequence=true", "parallel.pipeline=2", "zero.stage=0"],
        ["batch.micro=2"],
        ["data.workers=0", "data.prefetch=4"],
        ["checkpoint.every=5", "evaluate.every=5", "recompute=full", "kernels.attention=sdpa"],
        ["evaluate.suites=[bias]", "evaluate.gates=[bias/a < 1]", "checkpoint.best=eval/bias/a"],
        ["steps=40"],
        ["schedule.length=20", "schedule.floor=0.0"],
    ],
)
def test_what_changes_speed_alone_is_not(tmp_path: Path, overrides: list[str]) -> None:
    """Negative control: catches an elastic resume refused for its layout."""
    assert learning_changes(changed(tmp_path), changed(tmp_path, *overrides)) == []
