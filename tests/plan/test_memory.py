"""The memory formula against what autograd keeps, and what it promises of other sizes."""

from typing import Any

import pytest

from kernels.linear_cross_entropy import CHUNK_BYTES as LOSS_CHUNK_BYTES
from tests.model.remaking import bytes_kept, bytes_kept_on_triton, sized
from tests.parity.ranks import on_ranks
from trainer.plan.estimate import estimate
from trainer.plan.memory import CHUNK_BYTES, largest_micro, memory, with_micro

SETS: list[dict[str, Any]] = [
    {},
    {"recompute": ["norms"]},
    {"recompute": ["swiglu"], "precision": "bf16"},
    {"recompute": ["norms", "swiglu", "attention"]},
    {"recompute": ["norms", "mlp"], "precision": "bf16"},
    {"recompute": "full", "precision": "bf16"},
    {"model__qk_norm": True, "precision": "bf16"},
    {"model__qk_norm": True, "recompute": "attention"},
    {"model__norm": "layer", "model__qk_norm": True, "precision": "bf16"},
    {"model__norm": "layer", "model__qk_norm": True, "model__activation": "geglu"},
]


LORA: dict[str, Any] = {
    **{"stage": "sft", "init_from": "unused", "data__mixture": [{"corpus": "unused.jsonl"}]},
    "lora__rank": 32,
}
SETS += [
    LORA,
    LORA | {"lora__targets": ["q_proj", "model.layers.1.mlp.*"], "precision": "bf16"},
    LORA | {"lora__targets": ["v_proj", "down_proj"], "recompute": ["norms", "mlp"]},
    LORA | {"model__qk_norm": True},
    LORA | {"lora__targets": ["o_proj"], "lora__modules_to_save": ["down_proj", "norm"]},
]


@pytest.mark.parametrize("keys", SETS, ids=str)
def test_layers_keep_what_the_formula_says(keys: dict[str, Any]) -> None:
    """Would catch a tensor that autograd keeps twice, or a recomputed part that stays."""
    for kept, predicted in on_ranks(1, bytes_kept, [sized(**keys)])[0]:
        assert kept == pytest.approx(predicted, rel=0.01)


def test_the_loss_has_the_chunk_that_the_formula_counts() -> None:
    """Would catch a chunk of logits that was made larger in the kernel and not in the formula."""
    assert CHUNK_BYTES == LOSS_CHUNK_BYTES


def test_layers_keep_what_the_formula_says_on_kernels() -> None:
    """Would catch a formula for GPUs that counts the references' intermediate tensors."""
    # What differs on kernels: norms, rotation, the gated unit and attention, kept or made again.
    sets = SETS[0], SETS[3], SETS[6], SETS[8]
    small: dict[str, Any] = {
        "kernels__attention": "triton",
        "sequence_length": 32,
        "model__layers": 2,
        "batch": {"sequences": 1, "micro": 1},
    }
    recipes = [sized(**small, **keys) for keys in sets]
    for kept, predicted in on_ranks(1, bytes_kept_on_triton, recipes)[0]:
        assert kept == pytest.approx(predicted, rel=0.01)


@pytest.mark.parametrize(
    ("ranks", "keys"),
    [
        (2, {"parallel__tensor": 2, "parallel__sequence": True, "recompute": ["swiglu"]}),
        (2, {"parallel__tensor": 2, "recompute": ["norms"]}),
        (2, {"parallel__context": 2}),
    ],
    ids=str,
)
def test_layers_keep_their_rank_s_share(ranks: int, keys: dict[str, Any]) -> None:
    """Would catch a share of the sequence or of the heads counted whole, or halved twice."""
    for answer in on_ranks(ranks, bytes_kept, [sized(**keys)]):
        for kept, predicted in answer:
            assert kept == pytest.approx(predicted, rel=0.01)


def test_the_largest_micro_batch_fits_and_the_next_does_not() -> None:
    """Would catch a search that stops early, or at a power of two."""
    recipe = sized(batch__sequences=4, batch__micro=1)
    for micro in (1, 3, 7, 12):
        room = memory(with_micro(recipe, micro, 1, 4), 1, 2048, "cpu").peak
        assert largest_micro(recipe, room, 1, 2048, "cpu") == micro
    assert largest_micro(recipe, 2**20, 1, 2048, "cpu") == 0


def test_a_pipeline_is_as_large_as_its_larger_end() -> None:
    """Would catch micro-batches in flight left out of the first stage."""
    keys: dict[str, Any] = {"model__layers": 8, "batch__sequences": 16, "batch__micro": 2}
    alone = memory(sized(**keys), 1, 2048)
    split = memory(sized(parallel__pipeline=4, **keys), 4, 2048)
    layer = alone.activations["normalised"] / 8
    assert split.activations["normalised"] in (layer * 2 * 4, layer * 2)
    assert split.weights < alone.weights


def test_offloaded_activations_are_those_of_a_few_layers() -> None:
    """Would catch a formula that does not know the key."""
    keys: dict[str, Any] = {"model__layers": 12}
    kept = memory(sized(**keys), 1, 2048).activations["gate_up"]
    moved = memory(sized(offload="activations", **keys), 1, 2048).activations["gate_up"]
    assert moved == pytest.approx(kept / 4)


def test_a_frozen_copy_is_as_large_as_the_weights_and_never_shared() -> None:
    """Would catch a second copy that the plan leaves out, or shares among replicas under ZeRO-3."""
    keys: dict[str, Any] = {
        **{"stage": "reinforce", "init_from": "unused", "reinforce__questions": ["unused.jsonl"]},
        **{"reinforce__beta": 0.1, "reinforce__group": 2, "reinforce__tokens": 8},
        **{"batch__sequences": 8, "batch__micro": 1},
    }
    copied = {**keys, "reinforce__reference": "copy"}
    whole = memory(sized(**keys | {"reinforce__beta": 0.0}), 1, 2048)
    assert memory(sized(**copied), 1, 2048).weights == 2 * whole.weights
    assert memory(sized(**copied), 1, 2048).gradients == whole.gradients
    shared = memory(sized(**copied, zero__stage=3), 4, 2048)
    assert shared.weights == pytest.approx(whole.weights * (1 + 1 / 4))
    assert " of them a frozen copy, gradients" in estimate(sized(**copied), 1, 2048).lines()[1]
    assert "frozen" not in estimate(sized(**keys | {"reinforce__beta": 0.0}), 1, 2048).lines()[1]
    lora = memory(sized(**copied, lora__rank=8), 1, 2048)
    plain = memory(sized(**keys, lora__rank=8), 1, 2048)
    assert lora.weights - plain.weights == whole.weights
