"""The model computes what transformers' models compute (trainer/README.md, invariant 2)."""

from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, recipe_of
from trainer.model.sequence import SequenceLayout, rope_frequencies
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave

SEQUENCE = 32
LLAMA3 = {
    "factor": 8.0,
    "low_frequency_factor": 1.0,
    "high_frequency_factor": 4.0,
    "original_context": 16,
}


def our_logits(recipe: Any, tokens: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """This model's weights by name, norms made uneven, and its logits [batch, sequence, vocab]."""
    layout = create_layout(recipe)
    try:
        chunk = build_model(recipe, VOCAB, layout)[0]
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in chunk.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.1 if parameter.dim() == 1 else 0.05))
            positions = torch.arange(SEQUENCE).expand(tokens.shape)
            logits = chunk(tokens, SequenceLayout.whole(positions, rope_frequencies(recipe)))
        return {n: p.detach().clone() for n, p in chunk.named_parameters()}, logits
    finally:
        leave()


def peer_weights(ours: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Our weights under transformers' names: queries, keys and values taken apart a group."""
    theirs = {
        "model.embed_tokens.weight": ours["embedding.word_embeddings.weight"],
        "model.norm.weight": ours["decoder.final_layernorm.weight"],
    }
    theirs["lm_head.weight"] = ours.get(
        "output_layer.weight", ours["embedding.word_embeddings.weight"]
    )
    for layer in range(layers):
        old, new = f"decoder.layers.{layer}.", f"model.layers.{layer}."
        # Each of 2 groups: 2 query heads, a key head and a value head of 16 rows.
        groups = ours[f"{old}self_attention.linear_qkv.weight"].view(2, 4, 16, 64)
        theirs[f"{new}self_attn.q_proj.weight"] = groups[:, :2].reshape(64, 64)
        theirs[f"{new}self_attn.k_proj.weight"] = groups[:, 2].reshape(32, 64)
        theirs[f"{new}self_attn.v_proj.weight"] = groups[:, 3].reshape(32, 64)
        theirs[f"{new}self_attn.o_proj.weight"] = ours[f"{old}self_attention.linear_proj.weight"]
        gate, up = ours[f"{old}mlp.linear_fc1.weight"].chunk(2)
        theirs[f"{new}mlp.gate_proj.weight"], theirs[f"{new}mlp.up_proj.weight"] = gate, up
        theirs[f"{new}mlp.down_proj.weight"] = ours[f"{old}mlp.linear_fc2.weight"]
        theirs[f"{new}input_layernorm.weight"] = ours[f"{old}input_layernorm.weight"]
        theirs[f"{new}post_attention_layernorm.weight"] = ours[f"{old}pre_mlp_layernorm.weight"]
        if f"{old}self_attention.linear_qkv.bias" in ours:
            biases = ours[f"{old}self_attention.linear_qkv.bias"].view(2, 4, 16)
            theirs[f"{new}self_attn.q_proj.bias"] = biases[:, :2].reshape(64)
            theirs[f"{new}self_attn.k_proj.bias"] = biases[:, 2].reshape(32)
            theirs[f"{new}self_attn.v_proj.bias"] = biases[:, 3].reshape(32)
        for ours_name, theirs_name in (("q_layernorm", "q_norm"), ("k_layernorm", "k_norm")):
            if f"{old}self_attention.{ours_name}.weight" in ours:
                weight = ours[f"{old}self_attention.{ours_name}.weight"]
                theirs[f"{new}self_attn.{theirs_name}.weight"] = weight
    return theirs


@pytest.mark.parametrize(
    ("keys", "peer"),
    [
        ({}, {}),
        ({"model__tied_embeddings": True}, {"tie_word_embeddings": True}),
        (
            {"model__rope_theta": 5e5, "model__rope_scaling": LLAMA3},
            {
                "rope_parameters": {
                    **{"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0},
                    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
                    "original_max_position_embeddings": 16,
                }
            },
        ),
        ({"model__qk_norm": True}, {"head_dim": 16}),
        ({"model__qkv_bias": True}, {}),
    ],
    ids=["llama", "tied", "llama-3 rope", "qk-norm", "biases"],
)
def test_logits_equal_those_of_transformers(keys: dict[str, Any], peer: dict[str, Any]) -> None:
    """Catches a mistake that our own layouts would all share."""
    recipe = recipe_of(**keys)
    tokens = torch.randint(0, VOCAB, (3, SEQUENCE), generator=torch.Generator().manual_seed(0))
    weights, logits = on_ranks(1, our_logits, recipe, tokens)[0]
    options = {
        **{"vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128},
        **{"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"rms_norm_eps": 1e-5, "max_position_embeddings": SEQUENCE},
    }
    if "model__qk_norm" in keys:
        model = Qwen3ForCausalLM(Qwen3Config(**options, **peer))
    elif "model__qkv_bias" in keys:
        model = Qwen2ForCausalLM(Qwen2Config(**options, **peer))
    else:
        model = LlamaForCausalLM(LlamaConfig(**options, **peer))
    missing, unexpected = model.load_state_dict(peer_weights(weights, 4), strict=False)
    assert not unexpected and not missing
    with torch.no_grad():
        expected = model.eval()(tokens).logits
    assert logits.std() > 0.1, "logits near zero would agree by themselves"
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
