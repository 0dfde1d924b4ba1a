"""The model computes what transformers' models compute (trainer/README.md, invariant 2)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import kernels.dispatch
from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, recipe_of
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave

SEQUENCE = 32
LLAMA3 = {
    "factor": 8.0,
    "low_frequency_factor": 1.0,
    "high_frequency_factor": 4.0,
    "original_context": 16,
}


PATTERN = ("local", "global", "global")
OPTIONS: dict[str, Any] = {
    **{"vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128},
    **{"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"rms_norm_eps": 1e-5, "max_position_embeddings": SEQUENCE},
}


def our_logits(
    recipe: Any, tokens: torch.Tensor, mode: str = ""
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """This model's weights by name, norms made uneven, and its logits [batch, sequence, vocab].

    `mode` as LYCEUM_KERNELS.
    """
    kernels.dispatch.MODE = mode
    layout = create_layout(recipe)
    try:
        chunk = build_model(recipe, VOCAB, layout)[0]
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in chunk.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.1 if parameter.dim() == 1 else 0.05))
            positions = torch.arange(SEQUENCE).expand(tokens.shape)
            logits = chunk(tokens, SequenceLayout.whole(positions, rotary_embedding(recipe)))
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
        ({"model__activation": "geglu"}, {"hidden_act": "gelu"}),
        ({"model__activation": "geglu_tanh"}, {"hidden_act": "gelu_pytorch_tanh"}),
        ({"model__window": 7}, {"sliding_window": 7}),
        ({"model__window": 7, "kernels__attention": "reference"}, {"sliding_window": 7}),
        (
            {"model__qk_norm": True, "model__window": 5, "model__window_pattern": PATTERN},
            {
                **{"head_dim": 16, "use_sliding_window": True, "sliding_window": 5},
                "layer_types": [f"{kind}_attention" for kind in ("sliding", "full", "full")]
                + ["sliding_attention"],
            },
        ),
    ],
    ids=[
        *("llama", "tied", "llama-3 rope", "qk-norm", "biases", "geglu", "geglu-tanh"),
        *("window", "window by the reference", "window in some layers"),
    ],
)
def test_logits_equal_those_of_transformers(keys: dict[str, Any], peer: dict[str, Any]) -> None:
    """Catches a mistake that our own layouts would all share."""
    recipe = recipe_of(**keys)
    tokens = torch.randint(0, VOCAB, (3, SEQUENCE), generator=torch.Generator().manual_seed(0))
    weights, logits = on_ranks(1, our_logits, recipe, tokens)[0]
    if "model__qk_norm" in keys:
        model = Qwen3ForCausalLM(Qwen3Config(**OPTIONS, **peer))
    elif "model__qkv_bias" in keys:
        model = Qwen2ForCausalLM(Qwen2Config(**OPTIONS, **peer))
    elif "model__window" in keys:
        model = MistralForCausalLM(MistralConfig(**OPTIONS, **peer))
    else:
        model = LlamaForCausalLM(LlamaConfig(**OPTIONS, **peer))
    missing, unexpected = model.load_state_dict(peer_weights(weights, 4), strict=False)
    assert not unexpected and not missing
    with torch.no_grad():
        expected = model.eval()(tokens).logits
    assert logits.std() > 0.1, "logits near zero would agree by themselves"
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_a_window_left_out_is_seen() -> None:
    """The negative control: without it, sequences could be too short for the windows above."""
    tokens = torch.randint(0, VOCAB, (3, SEQUENCE), generator=torch.Generator().manual_seed(0))
    _, whole = on_ranks(1, our_logits, recipe_of(), tokens)[0]
    for window, unchanged in ((7, 7), (6, 6), (SEQUENCE, SEQUENCE)):
        _, seen = on_ranks(1, our_logits, recipe_of(model__window=window), tokens)[0]
        different = (seen - whole).abs().amax(dim=(0, 2)) > 1e-3
        assert different.int().argmax() == unchanged % SEQUENCE
        assert different[unchanged:].all() and not different[:unchanged].any()


def one_more(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Zero-centred norms as plain ones."""
    return {name: value + 1.0 if "norm" in name else value for name, value in weights.items()}


def half_apart(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries and keys whose channels turn in neighbouring pairs, as pairs half a head apart."""
    return {
        name: value.view(-1, 8, 2, 64).transpose(1, 2).reshape(value.shape)
        if "q_proj" in name or "k_proj" in name
        else value
        for name, value in weights.items()
    }


def louder(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Scores of 0.5 q k, as those of 1 / sqrt(16) of louder queries."""
    return {name: 2.0 * value if "q_proj" in name else value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("keys", "as_llama"),
    [
        ({"model__zero_centered_norms": True}, one_more),
        ({"model__rope_interleaved": True}, half_apart),
        ({"model__attention_scale": 0.5}, louder),
    ],
    ids=["zero-centred norms", "interleaved rotation", "attention scale"],
)
def test_other_operators_are_a_llama_of_other_weights(
    keys: dict[str, Any], as_llama: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    """Catches a key of the recipe that reaches no operator, or another argument of it."""
    tokens = torch.randint(0, VOCAB, (3, SEQUENCE), generator=torch.Generator().manual_seed(0))
    weights, logits = on_ranks(1, our_logits, recipe_of(**keys), tokens)[0]
    model = LlamaForCausalLM(LlamaConfig(**OPTIONS)).eval()
    theirs = peer_weights(weights, 4)
    with torch.no_grad():
        model.load_state_dict(as_llama(theirs))
        torch.testing.assert_close(logits, model(tokens).logits, atol=1e-5, rtol=0)
        model.load_state_dict(theirs)
        assert (logits - model(tokens).logits).abs().max() > 1e-2, "the key changes something"


def test_layer_norms_are_pytorchs() -> None:
    """Catches a mean that is not taken off, and a bias that reaches no norm."""
    tokens = torch.randint(0, VOCAB, (3, SEQUENCE), generator=torch.Generator().manual_seed(0))
    keys = {"model__norm": "layer", "model__qk_norm": True}
    weights, logits = on_ranks(1, our_logits, recipe_of(**keys), tokens)[0]
    model = Qwen3ForCausalLM(Qwen3Config(**OPTIONS, head_dim=16))
    names = [name for name, _ in model.named_modules() if name.endswith("norm")]
    assert len(names) == 4 * 4 + 1
    for name in names:
        width = model.get_submodule(name).weight.shape[0]
        model.set_submodule(name, torch.nn.LayerNorm(width, eps=1e-5))
    theirs = peer_weights(weights, 4)
    ours = {"q_norm": "self_attention.q_layernorm", "k_norm": "self_attention.k_layernorm"}
    ours |= {"input_layernorm": "input_layernorm", "post_attention_layernorm": "pre_mlp_layernorm"}
    for layer in range(4):
        for name, our_name in ours.items():
            place = "self_attn." if name in ("q_norm", "k_norm") else ""
            bias = weights[f"decoder.layers.{layer}.{our_name}.bias"]
            theirs[f"model.layers.{layer}.{place}{name}.bias"] = bias
    theirs["model.norm.bias"] = weights["decoder.final_layernorm.bias"]
    model.load_state_dict(theirs)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(tokens).logits, atol=1e-5, rtol=0)


def off_by_one(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: Any,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """An attention of transformers': a key that is zero, and whose value is, stands before all."""
    groups = query.shape[1] // key.shape[1]
    key, value = (
        F.pad(tensor.repeat_interleave(groups, dim=1), (0, 0, 1, 0)) for tensor in (key, value)
    )
    length = query.shape[2]
    seen = torch.ones(length, length + 1, dtype=torch.bool).tril(1)
    scores = (query @ key.transpose(2, 3) * scaling).masked_fill(~seen, float("-inf"))
    return (scores.softmax(dim=-1) @ value).transpose(1, 2), None


@pytest.mark.parametrize("mode", ["", "triton"])
def test_a_softmax_off_by_one_may_attend_to_nothing(mode: str) -> None:
    """Catches a log-sum-exp of other heads or rows, and a share taken of the wrong ones."""
    tokens = torch.randint(0, VOCAB, (3, SEQUENCE), generator=torch.Generator().manual_seed(0))
    recipe = recipe_of(model__softmax="off_by_one")
    weights, logits = on_ranks(1, our_logits, recipe, tokens, mode)[0]
    ALL_ATTENTION_FUNCTIONS.register("off_by_one", off_by_one)
    model = LlamaForCausalLM(LlamaConfig(**OPTIONS)).eval()
    model.load_state_dict(peer_weights(weights, 4))
    with torch.no_grad():
        assert (logits - model(tokens).logits).abs().max() > 1e-2, "plain attention differs"
        model.set_attn_implementation("off_by_one")
        torch.testing.assert_close(logits, model(tokens).logits, atol=1e-5, rtol=0)
