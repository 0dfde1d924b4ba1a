"""Training reads no memory that nobody wrote."""

import math
from pathlib import Path

from tests.kernels.fresh_memory import FreshMemory
from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.recipe import Recipe


def train_in_fresh_memory(recipe: Recipe) -> tuple[tuple[str, str] | None, int]:
    """The error that ended the run, if one did, and the number of matrix products."""
    with FreshMemory(math.nan) as memory:
        return train_here(recipe), memory.products


def test_no_step_is_skipped_over_what_memory_held(corpus: Path, tmp_path: Path) -> None:
    """Catches a NaN gradient of padding where 64 does not divide the vocabulary, in bf16."""
    keys = {"model__vocab": 400, "precision": "bf16", "kernels__loss": "fused", "steps": 2}
    recipe = recipe_of(tmp_path / "run", corpus, **keys, evaluate__every=0)
    [(error, products)] = on_ranks(1, train_in_fresh_memory, recipe)
    assert error is None and products > 100
    assert all(math.isfinite(value) for value in losses(recipe))
