"""The measured peak of a training step beside the formula's."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.model.remaking import peaks, sized
from tests.parity.ranks import on_ranks
from trainer.bench.memory import memory_command
from trainer.errors import RecipeError
from trainer.recipe import Recipe

RUNS: list[dict[str, Any]] = [
    {},
    {"precision": "bf16", "batch__micro": 1},
    {"kernels__loss": "fused", "recompute": ["norms", "swiglu"]},
    {"kernels__loss": "fused", "precision": "bf16", "recompute": "full"},
    {"recompute": "mlp", "model__ffn": 1408, "batch__micro": 2},
    {"recompute": ["attention", "norms"], "precision": "bf16", "model__kv_heads": 2},
    {"loss__z": 1e-3, "loss__label_smoothing": 0.1},
]


@pytest.fixture(scope="module")
def found() -> list[tuple[float, float]]:
    """Of each of RUNS, the measured peak and the formula's."""
    measured: list[tuple[float, float]] = on_ranks(1, peaks, [sized(**keys) for keys in RUNS])[0]
    return measured


def test_measured_peaks_are_within_5_percent_of_the_formula(
    found: list[tuple[float, float]],
) -> None:
    """Would catch memory that the formula does not know: copies, workspaces, gradients."""
    for keys, (measured, predicted) in zip(RUNS, found, strict=True):
        assert predicted == pytest.approx(measured, rel=0.05), keys


def test_another_recipe_s_formula_is_not_within_5_percent(found: list[tuple[float, float]]) -> None:
    """The negative control: without it, states alone could make up the peak."""
    kept, remade = found[0], found[4]
    assert abs(kept[1] / remade[0] - 1) > 0.05


def test_the_formula_alone_needs_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch a table that asks for a corpus, or for ranks that are not there."""
    file = tmp_path / "memory.json"
    recipe = sized(parallel__tensor=2)
    memory_command(recipe, gib=1.0, run=False, json_file=file)
    assert "gate_up" in capsys.readouterr().out
    assert json.loads(file.read_text())["largest_micro"] > 4


def test_a_gpu_can_be_planned_where_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch a plan made by the CPU's formula, whose references keep more."""
    recipe = sized(device="cuda", batch__micro=1)
    needed = {
        kind: memory_command(recipe, gib=1.0, run=False, json_file=None)["largest_micro"]
        for kind, recipe in (("cuda", recipe), ("cpu", sized(batch__micro=1)))
    }
    assert needed["cuda"] > needed["cpu"]
    assert "cuda: a rank" in capsys.readouterr().out
    with pytest.raises(RecipeError, match=r"^--memory: a GPU that is not here"):
        memory_command(recipe, gib=None, run=False, json_file=None)


def test_an_unknown_vocabulary_is_one_line() -> None:
    """Would catch a stack trace where the vocabulary is the tokenizer's."""
    keys = sized().model_dump(mode="json")
    keys["model"]["vocab"] = None
    with pytest.raises(RecipeError, match=r"set it, as in model\.vocab"):
        memory_command(Recipe.from_keys(keys), gib=1.0, run=False, json_file=None)
