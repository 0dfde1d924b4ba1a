"""`lora.modules_to_save` means what PEFT means by it, and never what an adapter means too."""

from typing import Any

import pytest

from tests.parity.training import recipe_of
from trainer.errors import RecipeError
from trainer.recipe import Recipe
from trainer.recipe.lora import saved_modules


def recipe(saved: list[str], targets: list[str], **keys: Any) -> Recipe:
    base = {"stage": "sft", "init_from": "unused", "data__mixture": [{"corpus": "unused.jsonl"}]}
    return recipe_of(**base, lora__modules_to_save=saved, lora__targets=targets, **keys)


def test_the_end_of_a_name_means_the_module_and_all_in_it() -> None:
    """Catches a block or an MLP that is refused, or of which a part stays frozen."""
    found = recipe(["1.mlp", "model.norm"], ["q_proj"])
    assert found.lora is not None
    assert saved_modules(found.lora, found.model) == {
        *("decoder.layers.1.mlp.linear_fc1", "decoder.layers.1.mlp.linear_fc2"),
        "decoder.final_layernorm",
    }


def test_a_pattern_of_targets_means_linear_layers_alone() -> None:
    """Catches a norm that trains whole and is said to have an adapter."""
    patterns = ["model.layers.0.self_attn.*"]
    assert recipe(["norm"], patterns, model__qk_norm=True).lora is not None
    with pytest.raises(RecipeError, match="q_proj has an adapter"):
        recipe(["self_attn"], patterns)
    with pytest.raises(RecipeError, match="is one matrix here with k_proj and v_proj"):
        recipe(["q_proj"], ["up_proj"])
