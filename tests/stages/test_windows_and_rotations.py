"""Windows and rotations by length: a batch's loss and gradients are transformers' of its examples.

Here the examples stand in packed rows, one a row, over two context ranks, recomputed; there each
passes through the model alone. All are longer than the window and most than the original context.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.conversations.talks import TRAINED
from tests.parity.ranks import on_ranks
from tests.stages.peers import (
    TOLERANCE,
    Passed,
    Work,
    gradients_of,
    largest_gradient_difference,
    pass_batches,
    peer_gradients,
    set_recipe,
    weights_of,
)
from trainer.conversations.sets import ensure_set
from trainer.recipe import Recipe

WINDOW, ORIGINAL, ROWS = 7, 24, 4
LENGTHS = {"sft": 64, "preference": 72}
"""With which four rows hold every example equally often."""
ROTATIONS: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL},
}
EXAMPLES = [
    {"prompt": "What is the capital of " + "it and of " * number + "France?", "completion": end}
    for number, end in enumerate((" Paris.", " It is what the capital is.", " No.", " And what?"))
]
PAIRS = [
    {"prompt": e["prompt"], "chosen": e["completion"], "rejected": " Of the user."}
    for e in EXAMPLES
]
BETA = 0.3
LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "packed": (1, {}),
    "one a row": (1, {"data__packing": "none"}),
    "context 2, recomputed": (2, {"parallel__context": 2, "recompute": "full"}),
}


def peer(rotation: str, seed: int = 0) -> Any:
    """Transformers' Mistral with the window and the rotation, and random weights."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(seed)
    config = MistralConfig(
        **{"vocab_size": 384, "hidden_size": 64, "intermediate_size": 128, "head_dim": 16},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"rms_norm_eps": 1e-5, "initializer_range": 0.1, "sliding_window": WINDOW},
        rope_parameters={"rope_theta": 1e4, **ROTATIONS[rotation]},
        max_position_embeddings=ORIGINAL,
    )
    return MistralForCausalLM(config)


def log_probabilities(model: Any, prompt: str, answer: str) -> tuple[Tensor, int]:
    """The summed log-probability of the answer and the end behind it, and its tokens."""
    # transformers' own turns a short text by the length of a longer one that it read before.
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    before = [*TRAINED.start, *TRAINED.encode(prompt)]
    ids = torch.tensor([[*before, *TRAINED.encode(answer), TRAINED.end_of_text]])
    logits = model(ids).logits[0, len(before) - 1 : -1]
    learned = ids[0, len(before) :]
    return -F.cross_entropy(logits, learned, reduction="sum"), len(learned)


def in_layouts(
    folder: Path, stage: str, records: list[dict[str, Any]], rotation: str, peers: list[Any]
) -> Iterator[tuple[str, Recipe, list[Passed]]]:
    """What the ranks of each layout found; `peers`: the model at the start, and at the batch."""
    weights = [weights_of(model) for model in peers]
    scaling = {"type": rotation, "factor": 4.0, "original_context": ORIGINAL}
    for name, (ranks, keys) in LAYOUTS.items():
        (folder / name).mkdir()
        recipe = set_recipe(
            *(folder / name, stage, records, TRAINED),
            **{"sequence_length": LENGTHS[stage], "batch": {"sequences": ROWS, "micro": 2}},
            **{"model__window": WINDOW, "model__rope_scaling": scaling},
            **{"model__rope_angles": "fp32", "preference": {"beta": BETA}, **keys},
        )
        work = Work(recipe, [ensure_set(recipe, recipe.data.mixture[0].corpus)], *weights)
        (found,) = zip(*on_ranks(ranks, pass_batches, [work]), strict=True)
        yield name, recipe, list(found)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_supervised_examples_are_learned_as_transformers_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotation: str
) -> None:
    """Catches a window off by one, a row's length in place of an example's, a scale left out."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    model = peer(rotation)
    each = [log_probabilities(model, e["prompt"], e["completion"]) for e in EXAMPLES]
    loss = -sum(nats for nats, _ in each) / sum(tokens for _, tokens in each)
    expected, segments = peer_gradients(model, loss), {}
    for name, recipe, found in in_layouts(tmp_path, "sft", EXAMPLES, rotation, [model, model]):
        assert found[0].loss == pytest.approx(loss.item(), abs=TOLERANCE), name
        difference, where = largest_gradient_difference(gradients_of(found, recipe), expected)
        assert difference < TOLERANCE, (name, where)
        segments[name] = max(found[0].segments)
    assert segments["packed"] > segments["one a row"], "nothing was packed"


def test_preferences_are_compared_as_transformers_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a reference that is read through other windows or by other lengths."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    reference, policy = peer("dynamic"), peer("dynamic", seed=1)

    def ahead(pair: dict[str, str], answer: str) -> Tensor:
        found = [log_probabilities(m, pair["prompt"], pair[answer])[0] for m in (policy, reference)]
        return found[0] - found[1].detach()

    margins = [ahead(pair, "chosen") - ahead(pair, "rejected") for pair in PAIRS]
    loss = -F.logsigmoid(BETA * torch.stack(margins)).mean()
    expected = peer_gradients(policy, loss)
    peers = [reference, policy]
    for name, recipe, found in in_layouts(tmp_path, "preference", PAIRS, "dynamic", peers):
        assert found[0].loss == pytest.approx(loss.item(), abs=TOLERANCE), name
        difference, where = largest_gradient_difference(gradients_of(found, recipe), expected)
        assert difference < TOLERANCE, (name, where)
