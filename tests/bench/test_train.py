"""The benchmark's figures are only worth something if both loops do the same work."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, write_text
from trainer.bench.bare import BareModel
from trainer.bench.timing import bare_config, bare_training
from trainer.bench.train import bench_command
from trainer.errors import RecipeError
from trainer.recipe import parameter_count

SCALING = {
    **{"factor": 8.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0},
    "original_context": 32,
}


def bench(run: Path, corpus: Path, file: Path, keys: dict[str, Any]) -> dict[str, Any]:
    bench_command(recipe_of(run, corpus, **keys), 3, file)
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_figures_come_from_alternating_pairs(tmp_path: Path) -> None:
    """Catches a pair left out, rates that are not of the same batches, and a run left behind."""
    write_text(tmp_path)
    figures = on_ranks(1, bench, tmp_path / "run", tmp_path, tmp_path / "figures.json", {})[0]
    assert len(figures["costs"]) == 3
    assert sorted(figures["costs"])[1] == figures["cost"]
    tokens = [
        figures[loop]["tokens_per_second"] * figures[loop]["step_seconds"]
        for loop in ("ours", "bare")
    ]
    # Medians of two columns: a step's tokens vary a little with the padding.
    assert tokens[0] == pytest.approx(tokens[1], rel=0.1)
    assert 0 < figures["matrix_share"] < 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"model__tied_embeddings": True, "model__qk_norm": True},
        {"model__qkv_bias": True},
        {"model__rope_scaling": SCALING, "model__head_size": 24},
    ],
)
def test_the_bare_model_has_the_recipes_parameters(tmp_path: Path, keys: dict[str, Any]) -> None:
    """Catches a baseline of another size."""
    recipe = recipe_of(tmp_path, tmp_path, **keys)
    model = BareModel(bare_config(recipe, 384), recipe.sequence_length)
    expected = parameter_count(recipe.model, 384)["total"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert bare_training(recipe).lr == recipe.optimizer.lr


def test_a_recipe_for_several_processes_is_refused(tmp_path: Path) -> None:
    """Catches a comparison of many processes with one."""
    recipe = recipe_of(tmp_path, tmp_path, parallel__tensor=2)
    with pytest.raises(RecipeError, match="tensor 2"):
        bench_command(recipe, 1, None)
