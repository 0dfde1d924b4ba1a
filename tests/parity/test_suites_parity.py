"""Suites on the live model of a run: the same figures, and the same training, at any layout."""

from pathlib import Path

import pytest

from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, write_text
from tests.training.suites import figures, measured_recipe, train_measured

LAYOUTS = {
    "tensor and sequence": {"parallel__tensor": 2, "parallel__sequence": True},
    "interleaved pipeline": {
        "parallel__pipeline": 2,
        "parallel__virtual": 2,
        "recompute": "full",
    },
    "context": {"parallel__context": 2},
    "replicas": {"zero__stage": 1},
    "shared weights": {"zero__stage": 3},
}


def test_figures_are_the_same_at_every_layout(tmp_path: Path) -> None:
    """Catches an answer lost between replicas, a shard's logits, a stage that answers for all.

    Two steps of training drift by 1e-6 nats a token at most; an answer has 36 of them.
    """
    write_text(tmp_path)
    keys = {"steps": 2, "evaluate__suites_every": 1, "optimizer__lr": 5e-3}
    alone = measured_recipe(tmp_path / "alone", tmp_path, **keys)
    assert on_ranks(1, train_measured, alone)[0] == [None]
    expected = [figures(tmp_path / "alone", name) for name in ("nats", "seen", "letters")]
    assert len(set(expected[0].values())) == 2
    for name, layout in LAYOUTS.items():
        recipe = measured_recipe(tmp_path / name, tmp_path, **keys, **layout)
        assert on_ranks(2, train_measured, recipe) == [[None]] * 2
        for figure, values in zip(("nats", "seen", "letters"), expected, strict=True):
            assert figures(tmp_path / name, figure) == pytest.approx(values, abs=1e-4), name


def test_training_is_bitwise_the_same_at_a_layout(tmp_path: Path) -> None:
    """Catches what an evaluation leaves behind: gathered weights, hooks, offloaded activations."""
    write_text(tmp_path)
    keys = {"steps": 3, "zero__stage": 3, "precision": "bf16", "offload": "activations"}
    measured = measured_recipe(tmp_path / "with", tmp_path, **keys, evaluate__suites_every=1)
    plain = recipe_of(tmp_path / "without", tmp_path, **keys)
    for recipe in (measured, plain):
        assert on_ranks(2, train_measured, recipe) == [[None]] * 2
    assert len(figures(tmp_path / "with")) == 3
    assert losses(measured) == losses(plain)
