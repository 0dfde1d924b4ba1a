"""A LoRA run's figures are those of what learns: its disk, its memory, its FLOPs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.model.lora import save_base, train_adapters
from tests.model.remaking import sized
from tests.parity.ranks import on_ranks
from tests.parity.training import SEQUENCE, VOCAB, batch_of, recipe_of
from trainer.data.batch import IGNORE
from trainer.model.passes import NextToken
from trainer.model.transformer import build_model
from trainer.observe.throughput import Throughput
from trainer.parallel.join import create_layout, leave
from trainer.plan.devices import GIB
from trainer.plan.estimate import estimate
from trainer.plan.memory import memory
from trainer.plan.show import show
from trainer.plan.size import flops_per_token, module_parameters, parameter_count, trained_count
from trainer.recipe import Recipe

LORA: dict[str, Any] = {
    **{"stage": "sft", "init_from": "unused", "data__mixture": [{"corpus": "unused.jsonl"}]},
    "lora__rank": 4,
}
KINDS: list[dict[str, Any]] = [
    {},
    LORA,
    LORA | {"lora__targets": ["q_proj", "model.layers.[12].mlp.down_proj"]},
    LORA | {"lora__targets": ["up_proj", "embed_tokens", "lm_head"]},
    LORA | {"lora__modules_to_save": ["lm_head", "norm"], "lora__rank_pattern": {"o_proj": 8}},
]


def multiplied(recipes: list[Recipe]) -> list[float]:
    """Operations of the matrix products of a step a token, as PyTorch counts them."""
    found = []
    for recipe in recipes:
        layout = create_layout(recipe)
        try:
            chunks = build_model(recipe, VOCAB, layout)
            batch = batch_of(0)
            passes = NextToken(chunks, recipe, layout)
            with FlopCounterMode(display=False) as counter:
                passes.run(batch, (batch.labels != IGNORE).sum().float())
            counts = counter.get_flop_counts()["Global"]
            products = sum(
                count for name, count in counts.items() if str(name) in ("aten.mm", "aten.addmm")
            )
            found.append(products / batch.tokens.numel())
        finally:
            leave()
    return found


def test_operations_are_those_that_pytorch_counts() -> None:
    """Catches gradients of a frozen base in the count, and adapters left out of it."""
    recipes = [recipe_of(**keys) for keys in KINDS]
    for recipe, counted in zip(recipes, on_ranks(1, multiplied, recipes)[0], strict=True):
        model, lora = recipe.model, recipe.lora
        attention = model.layers * 12 * model.heads * model.head_width * SEQUENCE / 2
        said = flops_per_token(model, SEQUENCE, VOCAB, lora) - attention
        assert said == counted
        cpu = torch.device("cpu")
        rates = Throughput(model, SEQUENCE, VOCAB, 1, cpu, lora).rates(1, 1.0)
        assert rates["tflops_per_device"] == (said + attention) / 1e12


def test_modules_add_up_to_the_model() -> None:
    """Catches a module that trains whole and counts as nothing."""
    for keys in ({}, {"model__tied_embeddings": True}, {"model__qk_norm": True}):
        model = recipe_of(**keys, model__norm="layer").model
        assert (
            sum(module_parameters(model, VOCAB).values()) == parameter_count(model, VOCAB)["total"]
        )


def saved_bytes(folder: Path, keys: list[dict[str, Any]]) -> list[tuple[int, Recipe]]:
    """Bytes of the tensors in a checkpoint of each recipe."""
    base = save_base(folder / "base")
    found = []
    for number, changed in enumerate(keys):
        recipe = recipe_of(**changed | {"init_from": str(base)})
        path = train_adapters(recipe, folder / str(number), 1)[1]
        assert path is not None
        found.append((sum(f.stat().st_size for f in path.glob("*.safetensors")), recipe))
    return found


def test_a_checkpoint_takes_what_learns(tmp_path: Path) -> None:
    """Catches a disk that is said to need room for the base in every checkpoint."""
    for held, recipe in on_ranks(1, saved_bytes, tmp_path, KINDS[1:])[0]:
        needed = estimate(recipe, 1, VOCAB)
        learns = trained_count(recipe.model, VOCAB, recipe.lora)["total"]
        assert needed.checkpoint_gib * GIB == 12 * learns
        assert held == pytest.approx(12 * learns, rel=0.25), "the header of a file comes on top"
        assert f"{int(learns):,} of them" in needed.lines()[0]


def test_memory_is_that_of_what_learns() -> None:
    """Catches gradients and moments of a frozen base, at every way of sharing them."""
    whole: dict[str, Any] = {"model__layers": 4, "precision": "bf16"}
    for keys, ranks in (({}, 1), ({"zero__stage": 2}, 2), ({"parallel__tensor": 2}, 2)):
        full = memory(sized(**whole, **keys), ranks, 2048)
        lora = memory(sized(**whole, **keys, **LORA), ranks, 2048)
        assert lora.gradients < full.gradients / 30 and lora.optimizer < full.optimizer / 30
        assert full.weights < lora.weights < 1.04 * full.weights
        assert lora.peak < full.peak
    alone = memory(sized(**whole, **LORA), 1, 2048)
    count = trained_count(sized(**LORA).model, 2048, sized(**LORA).lora)["total"]
    assert alone.gradients == pytest.approx(4 * count)
    assert alone.optimizer == pytest.approx(12 * count)


def test_show_says_what_learns(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a run of adapters that is shown as one of all weights."""
    recipe = recipe_of(**LORA)
    show(recipe)
    shown = capsys.readouterr().out
    learns = int(trained_count(recipe.model, VOCAB, recipe.lora)["total"])
    assert f"{learns:,} of them" in shown and "learn " in shown
    assert f"operations: {flops_per_token(recipe.model, SEQUENCE, VOCAB, recipe.lora):.3g}" in shown
    show(recipe_of())
    assert "learn" not in capsys.readouterr().out
