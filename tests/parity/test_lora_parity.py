"""LoRA learns at every layout what it learns in one process (trainer/README.md, invariant 1)."""

import json
import math
from functools import cache
from typing import Any

import pytest
import torch

from tests.parity.lora import lora_recipe, lora_steps
from tests.parity.ranks import on_ranks
from tests.parity.test_parity import GRADIENT_TOLERANCE, LOSS_TOLERANCE, name
from tests.parity.training import Curve, largest_gradient_difference, train_steps
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe

SOME = ["q_proj", "v_proj", "up_proj", "model.layers.[12].*.o_proj"]

TABLES = ["embed_tokens", "lm_head", "q_proj"]
WIDE = {"lora__rank_pattern": {"down_proj": 8}, "lora__rslora": True, "lora__alpha": 4.0}
WHOLE = ["embed_tokens", "lm_head", "norm", "layers.1.mlp.down_proj"]
SAVED = {"lora__targets": ["q_proj", "v_proj"], "lora__modules_to_save": WHOLE}
TIED = {"model__tied_embeddings": True, "lora__ensure_weight_tying": True}

LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (1, {"recompute": "full"}),
    (2, {"parallel__tensor": 2}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True, "lora__targets": SOME}),
    (2, {"parallel__pipeline": 2, "lora__targets": SOME}),
    (2, {"parallel__pipeline": 2, "model__tied_embeddings": True}),
    (2, {"parallel__pipeline": 2, "lora__targets": ["model.layers.3.*"]}),
    (2, {"parallel__pipeline": 2, "parallel__virtual": 2, "lora__targets": SOME}),
    (2, {"parallel__context": 2}),
    (2, {"zero__stage": 1, "recompute": "full"}),
    (2, {"zero__stage": 2, "model__tied_embeddings": True}),
    (2, {"zero__stage": 3}),
    (2, {"zero__stage": 3, "recompute": "full", "lora__targets": SOME}),
    (2, {"recompute": "mlp", "parallel__tensor": 2}),
    (2, {"kernels__loss": "fused", "parallel__tensor": 2}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True, "lora__targets": TABLES}),
    (2, {"parallel__pipeline": 2, "lora__targets": TABLES}),
    (2, {"zero__stage": 3, "lora__targets": TABLES}),
    (2, {"parallel__tensor": 2, **WIDE}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True, **SAVED}),
    (2, {"parallel__pipeline": 2, **SAVED, **TIED}),
    (2, {"zero__stage": 3, **SAVED}),
    (4, {"parallel__tensor": 2, "parallel__pipeline": 2, "parallel__sequence": True}),
    (4, {"parallel__tensor": 2, "parallel__sequence": True, "zero__stage": 3}),
]


@cache
def one_process(keys: str) -> Curve:
    """The reference curve, by the recipe's keys as JSON."""
    return on_ranks(1, lora_steps, lora_recipe(**json.loads(keys)), 5)[0]


def reference_of(keys: dict[str, Any]) -> Curve:
    """One process with the same model and adapters."""
    same = {k: v for k, v in keys.items() if k.startswith(("lora__", "model__"))}
    return one_process(json.dumps(same, sort_keys=True))


def whole_weights(keys: dict[str, Any]) -> set[str]:
    """What WHOLE means by PEFT's rule, the end of a name, in a model of four layers."""
    if "lora__modules_to_save" not in keys:
        return set()
    norms = ("input_layernorm", "pre_mlp_layernorm")
    found = {f"decoder.layers.{n}.{norm}.weight" for n in range(4) for norm in norms}
    found |= {"embedding.word_embeddings.weight", "decoder.final_layernorm.weight"}
    found |= set() if keys.get("model__tied_embeddings") else {"output_layer.weight"}
    return found | {"decoder.layers.1.mlp.linear_fc2.weight"}


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_adapters_learn_what_one_process_learns(layout: tuple[int, dict[str, Any]]) -> None:
    """Catches a wrong or missing exchange beside a frozen base, and a weight of the base learning.

    The names of what has a gradient are those of one process: adapters, and what trains whole.
    """
    ranks, keys = layout
    reference = reference_of(keys)
    names = {gradient[0] for gradient in reference.gradients}
    whole = {name for name in names if ".adapters." not in name}
    assert names > whole and whole == whole_weights(keys)
    found = set()
    for curve in on_ranks(ranks, lora_steps, lora_recipe(**keys), 5):
        assert curve.losses == pytest.approx(reference.losses, abs=LOSS_TOLERANCE, rel=0)
        assert curve.norms == pytest.approx(reference.norms, rel=1e-4)
        difference, where = largest_gradient_difference(curve, reference)
        assert difference < GRADIENT_TOLERANCE, where
        found |= {gradient[0] for gradient in curve.gradients}
    assert found == names


def test_a_left_out_all_reduce_is_caught() -> None:
    """The negative control: under sequence parallelism replicated matrices see a part each."""
    keys: dict[str, Any] = {"parallel__tensor": 2, "parallel__sequence": True}
    curves = on_ranks(2, lora_steps, lora_recipe(**keys), 1, "finalize")
    worst = max(largest_gradient_difference(c, reference_of(keys))[0] for c in curves)
    assert worst > 100 * GRADIENT_TOLERANCE


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bf16_adapters_keep_fp32_gradients(stage: int) -> None:
    """Catches adapters' gradients added up in bf16: eight micro-batches against one (D10)."""
    keys = {"precision": "bf16", "zero__stage": stage, "optimizer__lr": 1e-4}
    many = on_ranks(2, lora_steps, lora_recipe(batch__micro=1, **keys), 2)[0]
    few = on_ranks(2, lora_steps, lora_recipe(batch__micro=4, **keys), 2)[0]
    fp32 = on_ranks(1, lora_steps, lora_recipe(optimizer__lr=1e-4), 2)[0]
    # As for whole models: bf16 is 2^-9 off, four sums in bf16 would double that difference.
    assert many.losses == pytest.approx(fp32.losses, abs=5e-3)
    assert many.norms == pytest.approx(few.norms, rel=2e-3)


def test_a_stage_without_adapters_is_refused_under_zero() -> None:
    """Catches DeepSpeed's refusal of an empty optimizer on one rank, and the others waiting."""
    keys: dict[str, Any] = {"parallel__pipeline": 2, "lora__targets": ["model.layers.3.*"]}
    with pytest.raises(AssertionError, match=r"RecipeError: lora\.targets: leave a pipeline stage"):
        on_ranks(4, lora_steps, lora_recipe(zero__stage=1, **keys), 1)
    # A single replica runs without DeepSpeed, which is then nobody's trouble.
    alone = on_ranks(2, lora_steps, lora_recipe(zero__stage=1, **keys), 1)
    assert alone[0].losses == on_ranks(2, lora_steps, lora_recipe(**keys), 1)[0].losses


def spoiled(recipe: Recipe) -> Curve:
    """Two steps with a last stage whose norm is not a number."""
    return train_steps(recipe, 2, None, _spoil)


@torch.no_grad()
def _spoil(chunks: list[Any], _layout: Layout) -> None:
    for chunk in chunks:
        if chunk.post_process:
            chunk.decoder.final_layernorm.weight.fill_(torch.nan)


def test_a_stage_without_gradients_skips_with_the_others() -> None:
    """Catches a rank that has nothing to mark, and ends where the others skip the step."""
    keys: dict[str, Any] = {"parallel__pipeline": 2, "lora__targets": ["model.layers.3.*"]}
    for curve in on_ranks(2, spoiled, lora_recipe(**keys)):
        assert not any(math.isfinite(norm) for norm in curve.norms)
