"""Every layout learns what one process learns (trainer/README.md, invariant 1)."""

from functools import cache
from typing import Any

import pytest

from tests.parity.ranks import on_ranks
from tests.parity.training import (
    Curve,
    largest_gradient_difference,
    recipe_of,
    train_steps,
    train_steps_on_triton,
)

LOSS_TOLERANCE = 1e-5
"""Nats over 5 steps; a right layout drifts by about 1e-6 from rounding alone."""
GRADIENT_TOLERANCE = 1e-6
"""Absolute, first step; rounding alone gives about 1e-8."""

DYNAMIC: dict[str, Any] = {"type": "dynamic", "factor": 4.0, "original_context": 8}
PATTERN = ("local", "local", "global")
BY_LENGTH = {f"model__rope_scaling__{key}": value for key, value in DYNAMIC.items()}
LAYER_NORMS = {"model__norm": "layer", "model__qk_norm": True}
OTHERS = {
    **{"model__activation": "geglu_tanh", "model__rope_interleaved": True},
    **{"model__zero_centered_norms": True, "model__attention_scale": 0.5},
    "model__softmax": "off_by_one",
}

LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (2, {"parallel__tensor": 2}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True, "model__tied_embeddings": True}),
    (2, {"parallel__pipeline": 2}),
    (2, {"parallel__pipeline": 2, "parallel__virtual": 2}),
    (2, {"parallel__pipeline": 2, "model__tied_embeddings": True, "zero__stage": 1}),
    (2, {"parallel__context": 2}),
    (2, {"parallel__context": 2, "model__tied_embeddings": True, "zero__stage": 2}),
    (2, {}),
    (2, {"zero__stage": 1}),
    (2, {"zero__stage": 1, "model__tied_embeddings": True, "recompute": "full"}),
    (2, {"zero__stage": 2}),
    (2, {"zero__stage": 3}),
    (2, {"zero__stage": 3, "recompute": "full"}),
    (2, {"recompute": "attention", "zero__stage": 2}),
    (2, {"recompute": "mlp", "parallel__pipeline": 2}),
    (4, {"parallel__tensor": 2, "parallel__pipeline": 2, "parallel__sequence": True}),
    (4, {"parallel__tensor": 2, "parallel__context": 2, "zero__stage": 1}),
    (4, {"parallel__tensor": 2, "parallel__sequence": True, "parallel__context": 2}),
    (4, {"parallel__tensor": 2, "zero__stage": 3, "recompute": "attention"}),
    (4, {"parallel__pipeline": 4}),
    (4, {"parallel__pipeline": 4, "model__tied_embeddings": True, "batch__micro": 1}),
    (4, {"parallel__pipeline": 2, "parallel__virtual": 2, "zero__stage": 3, "batch__micro": 1}),
    (4, {"parallel__pipeline": 2, "parallel__context": 2, "zero__stage": 2}),
    (4, {"parallel__context": 4, "zero__stage": 3}),
    (4, {"zero__stage": 2, "model__tied_embeddings": True}),
    (
        8,
        {
            **{"parallel__tensor": 2, "parallel__sequence": True, "parallel__pipeline": 2},
            **{"parallel__virtual": 2, "zero__stage": 1, "model__tied_embeddings": True},
        },
    ),
    (8, {"parallel__tensor": 2, "parallel__pipeline": 2, "zero__stage": 1}),
    (8, {"parallel__tensor": 2, "parallel__pipeline": 4, "recompute": "full"}),
    (
        8,
        {
            **{"parallel__tensor": 2, "parallel__context": 2, "parallel__pipeline": 2},
            **{"parallel__sequence": True},
        },
    ),
    (8, {"parallel__tensor": 2, "parallel__context": 2, "zero__stage": 3}),
    (8, {"parallel__pipeline": 4, "zero__stage": 2, "batch__micro": 1}),
    (2, {"model__qkv_bias": True, "parallel__tensor": 2}),
    (2, {"model__qkv_bias": True, "parallel__tensor": 2, "parallel__sequence": True}),
    (2, {"model__qkv_bias": True, "zero__stage": 3, "model__qk_norm": True}),
    (4, {"model__qkv_bias": True, "parallel__tensor": 2, "zero__stage": 2}),
    (2, {"model__window": 7, "parallel__tensor": 2, "parallel__sequence": True}),
    (2, {"model__window": 7, "parallel__context": 2, "recompute": "attention"}),
    # A pattern counted within a stage would give the second stage other windows.
    (2, {"model__window": 7, "model__window_pattern": PATTERN, "parallel__pipeline": 2}),
    (
        2,
        {
            **{"model__window": 7, "model__window_pattern": PATTERN, "parallel__pipeline": 2},
            **{"parallel__virtual": 2},
        },
    ),
    (2, {"model__window": 7, "zero__stage": 3, "recompute": "full"}),
    (2, {**BY_LENGTH, "model__window": 7, "parallel__context": 2}),
    (2, {**LAYER_NORMS, "parallel__tensor": 2, "parallel__sequence": True}),
    (2, {**LAYER_NORMS, "zero__stage": 3, "recompute": ["norms"]}),
    (2, {**OTHERS, "parallel__tensor": 2, "recompute": ["swiglu", "norms"]}),
]


def name(layout: tuple[int, dict[str, Any]]) -> str:
    """A test id such as 4-tensor=2-stage=3."""
    ranks, keys = layout
    return "-".join([str(ranks), *(f"{k.split('__')[-1]}={v}" for k, v in keys.items())])


@cache
def one_process(tied: bool, steps: int, **others: Any) -> Curve:
    """The reference curve; clipping and data as everywhere. `others`: as `learned`."""
    return on_ranks(1, train_steps, recipe_of(model__tied_embeddings=tied, **others), steps)[0]


def learned(keys: dict[str, Any]) -> dict[str, Any]:
    """Of a layout's keys those that change what is learned; but for tied embeddings."""
    sections = ("model__", "loss__")
    return {
        key: value
        for key, value in keys.items()
        if key.startswith(sections) and key != "model__tied_embeddings"
    }


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_layout_learns_what_one_process_learns(layout: tuple[int, dict[str, Any]]) -> None:
    """Catches any wrong or missing exchange between ranks, in forward, backward, norm or step."""
    ranks, keys = layout
    reference = one_process(keys.get("model__tied_embeddings", False), 5, **learned(keys))
    for curve in on_ranks(ranks, train_steps, recipe_of(**keys), 5):
        assert curve.losses == pytest.approx(reference.losses, abs=LOSS_TOLERANCE, rel=0)
        assert curve.norms[0] == pytest.approx(reference.norms[0], rel=1e-5)
        difference, where = largest_gradient_difference(curve, reference)
        assert difference < GRADIENT_TOLERANCE, where


TRITON_LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (1, {"kernels__loss": "fused"}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True, "kernels__loss": "fused"}),
    (2, {"parallel__pipeline": 2, "model__tied_embeddings": True}),
    (2, {"parallel__context": 2, "zero__stage": 2}),
    (
        2,
        {
            **{"model__window": 7, "parallel__context": 2},
            "model__window_pattern": ("local", "global"),
        },
    ),
    (2, {**LAYER_NORMS, **OTHERS, "model__layers": 1, "parallel__tensor": 2}),
]
# The interpreter's time goes by programs. Two layers and two micro-batches of two rows still have a
# layer that feeds another, and gradients that add up.
TRITON_SIZES = {"model__layers": 2, "batch__sequences": 4}


@pytest.mark.parametrize("layout", TRITON_LAYOUTS, ids=name)
def test_triton_kernels_learn_what_the_reference_learns(
    layout: tuple[int, dict[str, Any]],
) -> None:
    """Catches a kernel that is right alone and wrong in the model: strides, slices, documents."""
    ranks, keys = layout
    keys = TRITON_SIZES | keys
    same = learned(keys) | {"batch__sequences": keys["batch__sequences"]}
    reference = one_process(keys.get("model__tied_embeddings", False), 2, **same)
    for curve in on_ranks(ranks, train_steps_on_triton, recipe_of(**keys), 2):
        assert curve.losses == pytest.approx(reference.losses, abs=LOSS_TOLERANCE, rel=0)
        assert curve.norms[0] == pytest.approx(reference.norms[0], rel=1e-5)
        difference, where = largest_gradient_difference(curve, reference)
        assert difference < GRADIENT_TOLERANCE, where


@pytest.mark.parametrize(
    "keys",
    [
        {"kernels__loss": "fused"},
        {"kernels__loss": "fused", "parallel__tensor": 2, "parallel__sequence": True},
        {"kernels__loss": "fused", "parallel__tensor": 2, "zero__stage": 1},
        {"kernels__loss": "fused", "zero__stage": 3, "recompute": "full"},
        {"kernels__loss": "fused", "parallel__pipeline": 2, "model__tied_embeddings": True},
        {"kernels__attention": "reference", "parallel__context": 2},
    ],
    ids=lambda keys: name((2, keys)),
)
def test_every_implementation_learns_the_same(keys: dict[str, Any]) -> None:
    """Catches a loss without logits, or an attention back end, that trains another model."""
    reference = one_process(keys.get("model__tied_embeddings", False), 5)
    for curve in on_ranks(2, train_steps, recipe_of(**keys), 5):
        assert curve.losses == pytest.approx(reference.losses, abs=LOSS_TOLERANCE, rel=0)
        difference, where = largest_gradient_difference(curve, reference)
        assert difference < GRADIENT_TOLERANCE, where


@pytest.mark.parametrize(
    "keys",
    [
        {"parallel__tensor": 2, "parallel__sequence": True},
        {"parallel__pipeline": 2, "model__tied_embeddings": True},
    ],
    ids=["sequence-parallel norms", "tied embeddings"],
)
def test_a_left_out_all_reduce_is_caught(keys: dict[str, Any]) -> None:
    """The negative control: without this, tolerances could be too wide to see anything."""
    reference = one_process(keys.get("model__tied_embeddings", False), 5)
    curves = on_ranks(2, train_steps, recipe_of(**keys), 5, "finalize")
    worst = max(largest_gradient_difference(curve, reference)[0] for curve in curves)
    assert worst > 100 * GRADIENT_TOLERANCE


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_micro_batch_does_not_change_the_curve(micro: int) -> None:
    """Catches a loss averaged a micro-batch: labels are spread unevenly (invariant 5)."""
    curve = on_ranks(1, train_steps, recipe_of(batch__micro=micro), 5)[0]
    assert curve.losses == pytest.approx(one_process(False, 5).losses, abs=1e-5, rel=0)


def test_twenty_steps_stay_close() -> None:
    """Catches state that goes wrong slowly: moments, masters, schedules."""
    # At 5e-3 this random data makes the curve rise, and rounding grows in it like anything else.
    keys: dict[str, Any] = {"optimizer__lr": 3e-3}
    alone = on_ranks(1, train_steps, recipe_of(**keys), 20)[0]
    keys |= {"parallel__tensor": 2, "parallel__pipeline": 2, "zero__stage": 1}
    curve = on_ranks(8, train_steps, recipe_of(**keys), 20)[0]
    assert curve.losses == pytest.approx(alone.losses, abs=1e-3, rel=0)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bf16_weights_keep_fp32_gradients_at_every_stage(stage: int) -> None:
    """Catches accumulation or reduction in bf16: eight micro-batches against one (D10)."""
    keys = {"precision": "bf16", "zero__stage": stage, "optimizer__lr": 1e-4}
    many = on_ranks(2, train_steps, recipe_of(batch__micro=1, **keys), 1)[0]
    few = on_ranks(2, train_steps, recipe_of(batch__micro=4, **keys), 1)[0]
    fp32 = on_ranks(1, train_steps, recipe_of(optimizer__lr=1e-4), 1)[0]
    # Weights and activations of bf16 are 2^-9 off; four sums in bf16 would double that difference.
    assert many.losses == pytest.approx(fp32.losses, abs=5e-3)
    assert many.norms == pytest.approx(few.norms, rel=2e-3)
