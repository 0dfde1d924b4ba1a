"""The config.json of an imported model, exported: what training changed, and nothing else."""

import json
from typing import Any

import pytest
import torch

from trainer.data.tokenizer import Tokenizer, train_tokenizer
from trainer.hugging_face.config import ModelDescription, describe
from trainer.hugging_face.config_writing import revised_config
from trainer.recipe.model import ModelSection
from trainer.recipe.rope import RopeScaling

IMPORTED: dict[str, Any] = {
    **{"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 99},
    **{"num_key_value_heads": 2, "num_hidden_layers": 4, "intermediate_size": 96},
    **{"max_position_embeddings": 256, "torch_dtype": "bfloat16", "use_cache": False},
    **{"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    **{"eos_token_id": 7, "rope_theta": 1e6},
}
YARN = {"type": "yarn", "factor": None, "original_max_position_embeddings": 64}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["a text"] * 3, 260)


def exported(
    tokenizer: Tokenizer, imported: dict[str, Any], positions: int, **changes: Any
) -> tuple[dict[str, Any], ModelDescription, ModelSection]:
    """The keys of an export, what they describe, and the trained model."""
    before = describe(json.dumps(imported).encode(), "imported")
    model = before.model.model_copy(update=changes)
    keys = revised_config(before, model, positions, torch.bfloat16, tokenizer)
    return keys, describe(json.dumps(keys).encode(), "exported"), model


def test_what_did_not_change_stays_as_it_was_spelled(tokenizer: Tokenizer) -> None:
    """Catches a config.json written anew: keys that only its owner knows are lost."""
    assert exported(tokenizer, IMPORTED, 128)[0] == IMPORTED
    assert exported(tokenizer, IMPORTED, 256, padding_token=3, init_std=0.5)[0] == IMPORTED


def test_a_longer_stage_raises_the_positions(tokenizer: Tokenizer) -> None:
    """Catches a model trained on 512 tokens whose folder says 256."""
    keys, after, model = exported(tokenizer, IMPORTED, 512)
    assert keys == IMPORTED | {"max_position_embeddings": 512}
    assert after.model == model and after.positions == 512


def test_another_rotation_is_written(tokenizer: Tokenizer) -> None:
    """Catches an extension stage whose folder rotates as the base did."""
    scaling = RopeScaling(type="yarn", factor=4.0, original_context=256)
    keys, after, model = exported(tokenizer, IMPORTED, 1024, rope_theta=5e6, rope_scaling=scaling)
    assert after.model == model and after.positions == 1024
    assert keys["use_cache"] is False and keys["sliding_window"] == 16 and keys["eos_token_id"] == 7
    # A scaling that the base had and training has not is gone in both spellings.
    scaled = IMPORTED | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    keys, after, model = exported(tokenizer, scaled, 256, rope_scaling=None)
    assert after.model == model and keys["rope_scaling"] is None


def test_what_followed_from_the_positions_does_not_move_with_them(tokenizer: Tokenizer) -> None:
    """Catches a YaRN factor, left out in the base's file, that grows with the trained length."""
    base = IMPORTED | {"rope_scaling": YARN}
    keys, after, model = exported(tokenizer, base, 512)
    assert after.model == model and after.model.rope_scaling is not None
    assert after.model.rope_scaling.factor == 4.0 and keys["max_position_embeddings"] == 512


def test_dynamic_scaling_keeps_its_positions(tokenizer: Tokenizer) -> None:
    """Catches positions raised where transformers takes them for NTK's original length."""
    base = IMPORTED | {"rope_scaling": {"type": "dynamic", "factor": 4.0}}
    keys, after, model = exported(tokenizer, base, 512)
    assert keys == base and after.model == model
    assert after.sequence_length == 1024
    override = RopeScaling(type="dynamic", factor=2.0, original_context=128)
    keys, after, model = exported(tokenizer, IMPORTED, 256, rope_scaling=override)
    assert keys["max_position_embeddings"] == 128 and after.model == model


def test_other_windows_and_types_are_written(tokenizer: Tokenizer) -> None:
    """Catches a folder with the base's windows, and a family given up for a plainer one."""
    pattern = ("local", "global")
    keys, after, model = exported(tokenizer, IMPORTED, 256, window=32, window_pattern=pattern)
    assert after.model == model and keys["sliding_window"] == 32
    _, after, model = exported(tokenizer, IMPORTED, 256, window=None, window_pattern=None)
    assert after.model.windows == (None,) * 4
    mistral = IMPORTED | {"model_type": "mistral"}
    keys, after, model = exported(tokenizer, mistral, 256, window=None)
    assert after.family == "mistral" and keys["sliding_window"] is None
    before = describe(json.dumps(IMPORTED).encode(), "imported")
    wide = revised_config(before, before.model, 256, torch.float32, tokenizer)
    assert wide == IMPORTED | {"torch_dtype": "float32"}


def test_older_linear_scaling_is_written_as_such(tokenizer: Tokenizer) -> None:
    """Catches an import of an earlier version, which spelled it so, exported as Llama 3's."""
    older = RopeScaling(factor=2.0, original_context=1)
    _, after, _ = exported(tokenizer, IMPORTED, 256, rope_scaling=older)
    assert after.model.rope_scaling == RopeScaling(type="linear", factor=2.0)


def test_a_window_makes_another_family_of_a_llama(tokenizer: Tokenizer) -> None:
    """Catches a folder that names a window which transformers' Llama does not compute."""
    names = ("use_sliding_window", "sliding_window", "max_window_layers")
    llama = {key: value for key, value in IMPORTED.items() if key not in names}
    keys, after, model = exported(tokenizer, llama | {"model_type": "llama"}, 64, window=32)
    assert after.family == "mistral" and after.model == model and after.positions == 256
    assert keys["architectures"] == ["MistralForCausalLM"]


def test_windows_in_some_layers_make_a_ministral(tokenizer: Tokenizer) -> None:
    """Catches a pattern that its family does not compute, and a Ministral that has lost its own."""
    names = ("use_sliding_window", "sliding_window", "max_window_layers")
    plain = {key: value for key, value in IMPORTED.items() if key not in names} | {"head_dim": 16}
    pattern = ("local", "global")
    for family in ("llama", "mistral"):
        _, after, model = exported(
            tokenizer, plain | {"model_type": family}, 64, window=32, window_pattern=pattern
        )
        assert after.family == "ministral" and after.model == model
    ministral = plain | {"model_type": "ministral", "sliding_window": 16}
    keys, after, model = exported(tokenizer, ministral, 64, window=32)
    assert keys == ministral | {"sliding_window": 32, "layer_types": ["sliding_attention"] * 4}
    unseen = ministral | {"layer_types": ["full_attention"] * 4}
    assert exported(tokenizer, unseen, 64)[0] == unseen
    keys, after, model = exported(tokenizer, unseen, 64, vocab=128)
    assert after.family == "ministral" and after.model == model and keys["sliding_window"] == 16
    _, after, model = exported(tokenizer, ministral, 64, window=None)
    assert after.family == "llama" and after.model == model, "none is computed without a window"


def test_a_grown_vocabulary_is_written(tokenizer: Tokenizer) -> None:
    """Catches a folder whose embedding has more rows than its config.json."""
    keys, after, model = exported(tokenizer, IMPORTED, 256, vocab=128)
    assert keys["vocab_size"] == 128 and after.model == model
    assert keys["eos_token_id"] == 7 and keys["use_cache"] is False
