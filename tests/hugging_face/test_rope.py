"""The rotation that a config.json names, in every spelling, is transformers' own to the bit."""

import json
from copy import deepcopy
from typing import Any

import pytest
import torch

from trainer.data.tokenizer import Tokenizer, train_tokenizer
from trainer.hugging_face.config import conversion_recipe, describe
from trainer.hugging_face.config_writing import revised_config
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import document_lengths

LISTS = {
    "short_factor": [1.0 + n / 64 for n in range(64)],
    "long_factor": [1.0 + n for n in range(64)],
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
SPELLINGS: dict[str, dict[str, Any]] = {
    "llama 2, without a theta": {},
    "llama 3.1": {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8192}},
    "llama 3, the positions stretched": {"rope_scaling": LLAMA3},
    "qwen2.5's yarn": {
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rope_scaling": {
            **{"type": "yarn", "factor": 4.0},
            "original_max_position_embeddings": 32768,
        },
    },
    "a yarn of the positions": {"rope_scaling": {"type": "yarn", "factor": 4.0}},
    "a yarn without a factor": {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": None,
            "original_max_position_embeddings": 64,
        }
    },
    "a yarn whose context stands beside it": {
        "original_max_position_embeddings": 64,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096},
    },
    "deepseek's scales": {
        "rope_parameters": {
            **{"rope_type": "yarn", "rope_theta": 1e4, "factor": 40, "beta_fast": 32},
            **{"beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.707, "truncate": False},
            "original_max_position_embeddings": 4096,
        }
    },
    "phi 3's context beside its lists": {
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", **LISTS},
    },
    "longrope in the new key": {
        "rope_parameters": {
            **{"rope_type": "longrope", "rope_theta": 1e4, "factor": 16.0, **LISTS},
            "original_max_position_embeddings": 4096,
        }
    },
    "dynamic": {
        "max_position_embeddings": 4096,
        "rope_scaling": {"type": "dynamic", "factor": 8.0},
    },
    "linear, both keys": {
        "rope_scaling": {"type": "linear", "factor": 4},
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        "rope_theta": 1e5,
    },
}
"""What a config.json says of rotation, beyond the sizes of a model of heads of 128 channels."""
USUAL: dict[str, Any] = {
    **{"model_type": "llama", "hidden_size": 512, "num_attention_heads": 4, "vocab_size": 64},
    **{"num_hidden_layers": 1, "intermediate_size": 8, "max_position_embeddings": 65536},
}
LENGTHS = (64, 4096, 4097, 70000)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["a text"] * 3, 260)


def turned_by_transformers(keys: dict[str, Any], positions: torch.Tensor) -> list[torch.Tensor]:
    """Its cos and sin, fp32 [positions, head size / 2], for a text that ends at the last one."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rotary = LlamaRotaryEmbedding(LlamaConfig.from_dict(deepcopy(keys)))
    return [table[0, :, :64] for table in rotary(torch.zeros(1), positions[None])]


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_turns_as_in_transformers(name: str, tokenizer: Tokenizer) -> None:
    """Catches a context, factor or theta that is read from another key than transformers takes."""
    keys = USUAL | SPELLINGS[name]
    before = describe(json.dumps(keys).encode(), name)
    theta = before.model.model_copy(update={"rope_theta": before.model.rope_theta + 1})
    changed = revised_config(before, theta, 65536, torch.float32, tokenizer)
    for described in (before, describe(json.dumps(changed).encode(), name)):
        rotary = rotary_embedding(conversion_recipe(described.model, 1, "fp32", "unused"))
        for length in LENGTHS:
            # So many that a vector instruction takes their powers, where theirs is of one number.
            positions = torch.linspace(0, length - 1, 64).long()
            ours = rotary.table(positions[None], document_lengths(positions[None]))
            theirs = turned_by_transformers(described.keys, positions)
            for table, expected in zip(ours, theirs, strict=True):
                assert torch.equal(table[0], expected), length
