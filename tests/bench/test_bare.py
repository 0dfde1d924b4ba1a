"""The bare loop is the yardstick of `lyceum bench train`: it must be the same architecture."""

from __future__ import annotations

import pytest
import torch

from trainer.bench.bare import IGNORE, BareModel, bare_optimizer, bare_step
from trainer.recipe import Recipe
from trainer.recipe.model import ModelSection, RopeScaling

CONFIG = ModelSection(
    layers=2, hidden=48, heads=4, kv_heads=2, ffn=96, vocab=61, head_size=16, rope_theta=500.0
)
SCALING = RopeScaling(factor=8.0, original_context=32)


def recipe_of(micro: int) -> Recipe:
    return Recipe.from_keys(
        {
            "run": "bare",
            "steps": 5,
            "sequence_length": 24,
            "model": CONFIG.model_dump(),
            "batch": {"sequences": 4, "micro": micro},
            "optimizer": {"lr": 1e-2},
        }
    )


def random_rows(rows: int = 4, sequence: int = 24) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(CONFIG.vocab, (rows, sequence), generator=generator)
    labels = torch.randint(CONFIG.vocab, (rows, sequence), generator=generator)
    labels[1, 5:] = IGNORE  # uneven numbers of supervised tokens
    positions = torch.cat((torch.arange(9), torch.arange(sequence - 9))).expand(rows, -1)
    return tokens, labels, positions


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scaling", [None, SCALING])
def test_logits_equal_transformers_llama(tied: bool, scaling: RopeScaling | None) -> None:
    """Catches a baseline that computes another, perhaps cheaper, model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = CONFIG.model_copy(update={"tied_embeddings": tied, "rope_scaling": scaling})
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    torch.manual_seed(0)
    reference = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab,
            hidden_size=config.hidden,
            intermediate_size=config.ffn,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_size,
            rms_norm_eps=config.norm_eps,
            rope_parameters=rope,
            max_position_embeddings=256,
            tie_word_embeddings=tied,
            initializer_range=0.1,  # attention far from uniform: wrong positions move logits by 1.4
            attn_implementation="eager",
        )
    ).eval()
    model = BareModel(config, sequence_length=200)
    weights = {name.removeprefix("model."): x for name, x in reference.state_dict().items()}
    model.load_state_dict(weights)
    tokens = torch.randint(config.vocab, (2, 200))
    positions = torch.arange(200).expand(2, -1)
    with torch.no_grad():
        difference = model(tokens, positions) - reference(tokens).logits
    assert difference.abs().max() < 1e-5


def test_packed_documents_do_not_see_each_other() -> None:
    """Catches a mask without document boundaries, which would make the baseline's work another."""
    model = BareModel(CONFIG, sequence_length=24)
    tokens, _, positions = random_rows()
    with torch.no_grad():
        packed = model(tokens, positions)[:, 9:]
        alone = model(tokens[:, 9:], positions[:, 9:])
        joined = model(tokens, torch.arange(24).expand(4, -1))[:, 9:]
    torch.testing.assert_close(packed, alone, atol=1e-6, rtol=0)
    assert (packed - joined).abs().max() > 1e-4  # negative control


@pytest.mark.parametrize("micro", [1, 2])
def test_the_micro_batch_does_not_change_the_curve(micro: int) -> None:
    """Catches a loss that is averaged a micro-batch instead of a supervised token."""
    curves = []
    for size in (4, micro):
        torch.manual_seed(0)
        model = BareModel(CONFIG, sequence_length=24)
        recipe = recipe_of(size)
        optimizer = bare_optimizer(model.named_parameters(), recipe.optimizer)
        rows = random_rows()
        curves.append([float(bare_step(model, optimizer, rows, recipe)) for _ in range(5)])
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert curves[0][-1] < curves[0][0]


def test_only_matrices_decay() -> None:
    """Catches decay groups that differ from the recipe's."""
    named = BareModel(CONFIG, 8).named_parameters()
    decayed, free = bare_optimizer(named, recipe_of(1).optimizer).param_groups
    assert {p.dim() for p in decayed["params"]} == {2}
    assert len(decayed["params"]) == 7 * CONFIG.layers + 1  # and the head
    assert sum(p.dim() == 2 for p in free["params"]) == 1  # the embedding
