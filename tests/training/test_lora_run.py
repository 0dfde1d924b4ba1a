"""A LoRA run goes on where it stopped, from its own base, at any layout."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.model.lora import (
    lora_run_recipe,
    one_step,
    own_rows,
    save_base,
    tensors_of,
    train_adapters,
)
from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, batch_of, recipe_of
from trainer.checkpoint import CheckpointReader
from trainer.checkpoint.adapted import read_merged
from trainer.checkpoint.lora_base import find_base
from trainer.model.lora import adapters_off
from trainer.model.passes import NextToken
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.sharding import sharded_parameters
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe
from trainer.restore import start_from

LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (1, {}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True, "precision": "bf16"}),
    (2, {"zero__stage": 1}),
    (2, {"zero__stage": 3, "precision": "bf16"}),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base for all runs."""
    path: Path = on_ranks(1, save_base, tmp_path_factory.mktemp("base"))[0]
    return path


def run(ranks: int, recipe: Recipe, *arguments: Any) -> tuple[list[float], Path]:
    """Rank 0's losses and checkpoint."""
    losses, path = on_ranks(ranks, train_adapters, recipe, *arguments)[0]
    return losses, path


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_resume_is_bitwise_exact(
    tmp_path: Path, base: Path, layout: tuple[int, dict[str, Any]]
) -> None:
    """Catches a moment, a master or a weight of the base that a resume loses."""
    ranks, keys = layout
    recipe = lora_run_recipe(base, **keys)
    whole, last = run(ranks, recipe, tmp_path / "whole", 6)
    first, middle = run(ranks, recipe, tmp_path / "parts", 3)
    rest, end = run(ranks, recipe, tmp_path / "parts", 6, middle)
    assert first + rest == whole
    ours, theirs = tensors_of(CheckpointReader(end)), tensors_of(CheckpointReader(last))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_another_layout_goes_on_with_the_same_curve(tmp_path: Path, base: Path) -> None:
    """Catches adapters or moments that only the layout which saved them can read."""
    _, middle = run(1, lora_run_recipe(base), tmp_path / "alone", 3)
    right, _ = run(1, lora_run_recipe(base), tmp_path / "right", 6, middle)
    keys = {"parallel__tensor": 2, "parallel__pipeline": 2, "parallel__sequence": True}
    left, end = run(4, lora_run_recipe(base, **keys), tmp_path / "left", 5, middle)
    assert left == pytest.approx(right[:2], abs=1e-5, rel=0)
    back, _ = run(2, lora_run_recipe(base, zero__stage=3), tmp_path / "back", 6, end)
    assert back == pytest.approx(right[2:], abs=1e-5, rel=0)


def test_a_run_of_all_weights_starts_from_the_merged_ones(tmp_path: Path, base: Path) -> None:
    """Catches a next stage that starts from the base alone."""
    _, path = run(1, lora_run_recipe(base), tmp_path / "lora", 3)
    keys = {"stage": "sft", "data__mixture": [{"corpus": "unused.jsonl"}]}
    full = recipe_of(init_from=str(path), parallel__tensor=2, **keys)
    beside = on_ranks(1, first_loss, lora_run_recipe(path))[0]
    assert on_ranks(2, first_loss, full)[0] == pytest.approx(beside, abs=1e-6)
    assert abs(on_ranks(1, first_loss, lora_run_recipe(base))[0] - beside) > 1e-3
    merged, plain = read_merged(CheckpointReader(path)), CheckpointReader(base)
    name = "model/decoder.layers.1.self_attention.linear_qkv.weight"
    assert merged.dtype(name) == plain.dtype(name)
    box = merged.read(name, (3, 5), (70, 20))
    torch.testing.assert_close(box, merged.read(name)[3:73, 5:25], atol=1e-6, rtol=0)


def first_loss(recipe: Recipe) -> float:
    """The first batch's loss of a run that starts from `init_from`."""
    return train_adapters(recipe, None, 1)[0][0]


def test_the_same_adapters_go_on_in_the_next_stage(tmp_path: Path, base: Path) -> None:
    """Catches a second LoRA stage that begins with fresh adapters, or names the wrong base."""
    _, path = run(1, lora_run_recipe(base), tmp_path / "first", 3)
    _, second = run(1, lora_run_recipe(path), tmp_path / "second", 2)
    assert find_base(CheckpointReader(second)).folder == base.resolve()
    begun = on_ranks(1, first_adapters, lora_run_recipe(path))[0]
    ended = tensors_of(CheckpointReader(path), "model/")
    assert begun.keys() == ended.keys()
    assert all(torch.equal(begun[key], ended[key]) for key in ended)
    line = "RecipeError: lora: the adapters in .* are others: rank is 4 there and 8 here"
    with pytest.raises(AssertionError, match=line):
        run(1, lora_run_recipe(path, lora__rank=8, lora__alpha=16), tmp_path / "third", 1)
    some = lora_run_recipe(path, lora__targets=["q_proj"])
    with pytest.raises(AssertionError, match=r"targets are q_proj, .* there and q_proj here"):
        run(1, some, tmp_path / "third", 1)


def first_adapters(recipe: Recipe) -> dict[str, torch.Tensor]:
    """What a run begins with, under the names of a checkpoint."""
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        start_from(recipe, chunks, create_optimizer(chunks, recipe, layout))
        return {
            f"model/{sharding.name}": parameter.detach().clone()
            for parameter, sharding in sharded_parameters(chunks)
            if parameter.requires_grad
        }
    finally:
        leave()


def test_a_base_that_is_gone_or_another_is_one_line(tmp_path: Path) -> None:
    """Catches adapters put on weights that they were not made for."""
    own = on_ranks(1, save_base, tmp_path / "base")[0]
    _, path = run(1, lora_run_recipe(own), tmp_path / "run", 1)
    other = on_ranks(1, save_base, tmp_path / "other", 8)[0]
    line = "RecipeError: init_from: .*other.* is another base than .*base"
    with pytest.raises(AssertionError, match=line):
        run(1, lora_run_recipe(other), tmp_path / "run", 2, path)
    moved = tmp_path / "moved"
    own.rename(moved)
    line = "CheckpointError: .*holds adapters for the base .*which is gone"
    with pytest.raises(AssertionError, match=line):
        run(1, lora_run_recipe(own), tmp_path / "run", 2, path)
    # Named by the recipe it is found, wherever it is.
    run(1, lora_run_recipe(moved), tmp_path / "run", 2, path)
    shutil.copytree(other, own)
    with pytest.raises(AssertionError, match=r"CheckpointError: .*another one \(its seal is not"):
        run(1, lora_run_recipe(own), tmp_path / "run", 2, path)


def test_base_and_run_may_move_together(tmp_path: Path) -> None:
    """Catches a checkpoint that is lost with the folder in which it was made."""
    own = on_ranks(1, save_base, tmp_path / "project" / "base")[0]
    _, path = run(1, lora_run_recipe(own), tmp_path / "project" / "run", 1)
    (tmp_path / "project").rename(tmp_path / "renamed")
    moved = tmp_path / "renamed" / path.relative_to(tmp_path / "project")
    there = tmp_path / "renamed" / own.relative_to(tmp_path / "project")
    assert find_base(CheckpointReader(moved)).folder == there


def test_adapters_and_all_weights_are_not_mixed(tmp_path: Path, base: Path) -> None:
    """Catches a resume that trains something else than before."""
    _, path = run(1, lora_run_recipe(base), tmp_path / "run", 1)
    with pytest.raises(AssertionError, match=r"RecipeError: lora: .* holds adapters; set lora"):
        run(1, recipe_of(), tmp_path / "run", 2, path)
    with pytest.raises(
        AssertionError, match=r"RecipeError: lora: .* holds all weights; leave lora"
    ):
        run(1, lora_run_recipe(base), tmp_path / "run", 2, base)


def reference_beside_training(recipe: Recipe) -> tuple[list[float], list[float]]:
    """The base's loss and the model's on one batch, three times with a step after each."""
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        optimizer = create_optimizer(chunks, recipe, layout)
        start_from(recipe, chunks, optimizer)
        passes = NextToken(chunks, recipe, layout)
        own, supervised = own_rows(batch_of(0), layout)
        base, model = [], []
        for _ in range(3):
            with adapters_off(chunks):
                base.append(passes.run(own, supervised, forward_only=True).mean.item())
            model.append(one_step(passes, chunks, optimizer, recipe, layout, 0))
        return base, model
    finally:
        leave()


@pytest.mark.parametrize(
    "layout",
    [(1, {}), (2, {"parallel__tensor": 2, "parallel__sequence": True}), (2, {"zero__stage": 3})],
    ids=str,
)
def test_the_base_stays_the_reference_while_adapters_learn(
    base: Path, layout: tuple[int, dict[str, Any]]
) -> None:
    """Catches a base that moves, and an engine confused by a pass that leaves modules out."""
    ranks, keys = layout
    reference, model = on_ranks(ranks, reference_beside_training, lora_run_recipe(base, **keys))[0]
    assert reference == [reference[0]] * 3
    assert model[0] == pytest.approx(reference[0], abs=1e-6)
    assert model[2] < model[0] - 1e-3
