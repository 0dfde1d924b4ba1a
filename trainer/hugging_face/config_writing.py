"""A model section as the keys of a config.json, new or changed from an imported one."""

from typing import Any

import torch

from trainer.checkpoint.format import dtype_name
from trainer.data.tokenizer import Tokenizer
from trainer.errors import CheckpointError
from trainer.hugging_face import rope, windows
from trainer.hugging_face.config import ACTIVATIONS, FAMILIES, ModelDescription
from trainer.recipe.model import ModelSection

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""The keys of config.json that follow from the tokenizer."""


def config_of(
    model: ModelSection,
    positions: int,
    dtype: torch.dtype,
    tokenizer: Tokenizer,
    preferred: str | None = None,
) -> dict[str, Any]:
    """The keys of config.json for a model section.

    `positions`: tokens of the longest sequence that it was trained on; `preferred`: the family to
    choose where several compute the model. Raises CheckpointError where none of FAMILIES does.
    """
    family = family_of(model, preferred)
    return {
        "architectures": [FAMILIES[family]],
        "model_type": family,
        "vocab_size": model.vocab,
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.query_groups,
        "head_dim": model.head_width,
        "hidden_act": next(name for name, ours in ACTIVATIONS.items() if ours == model.activation),
        "max_position_embeddings": rope.written_positions(model.rope_scaling, positions),
        "initializer_range": model.init_std,
        "rms_norm_eps": model.norm_eps,
        "tie_word_embeddings": model.tied_embeddings,
        **rope.rope_keys(model),
        "attention_dropout": 0.0,
        **windows.window_keys(family, model),
        **({"attention_bias": False, "mlp_bias": False} if family == "llama" else {}),
        **({"attention_bias": False} if family == "qwen3" else {}),
        "bos_token_id": tokenizer.start[0] if tokenizer.start else None,
        "eos_token_id": sorted(tokenizer.ends),
        # It also says which row gets no gradient; what pads while writing is generation_config's.
        "pad_token_id": model.padding_token,
        "dtype": dtype_name(dtype),
        "torch_dtype": dtype_name(dtype),
    }


def revised_config(
    imported: ModelDescription,
    model: ModelSection,
    positions: int,
    dtype: torch.dtype,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """The keys of an imported model's config.json, changed as far as training changed the model.

    Arguments as `config_of`'s. What training does not touch stays as it was spelled, unless the
    family does not compute the model any more, as Llama knows no window.
    """
    positions = max(positions, imported.positions)
    fresh = config_of(model, positions, dtype, tokenizer, imported.family)
    if fresh["model_type"] != imported.family:
        if imported.model.windows != model.windows:
            return fresh
        # A Ministral with a window that none of its layers has.
        fresh |= {"model_type": imported.family, "architectures": [FAMILIES[imported.family]]}
    keys, old = dict(imported.keys), imported.model
    described = old.model_fields_set  # other keys of the recipe have no like there
    changed = {name for name in described if getattr(old, name) != getattr(model, name)}
    same = {"init_std", "padding_token", "rope_angles"}
    same |= {"kv_heads"} if old.query_groups == model.query_groups else set()
    changed -= same | ({"head_size"} if old.head_width == model.head_width else set())
    groups = {name: rope.KEYS for name in ("rope_theta", "rope_scaling")}
    groups |= {name: windows.KEYS for name in ("window", "window_pattern")}
    written = rope.written_positions(model.rope_scaling, positions)
    if written != imported.positions:
        keys["max_position_embeddings"] = written
        if model.rope_scaling is not None:  # what follows from the positions is to stay
            changed.add("rope_scaling")
    if changed - groups.keys():
        elsewhere = (*rope.KEYS, *windows.KEYS, *TOKENS, "max_position_embeddings")
        keys |= {key: value for key, value in fresh.items() if key not in elsewhere}
    for name in changed & groups.keys():
        for key in groups[name]:
            keys.pop(key, None)
        keys |= {key: fresh[key] for key in groups[name] if key in fresh}
    spelled = [key for key in ("dtype", "torch_dtype") if keys.get(key) is not None]
    return keys | dict.fromkeys(spelled, dtype_name(dtype))


def family_of(model: ModelSection, preferred: str | None = None) -> str:
    """The family of FAMILIES that computes a model, `preferred` where several do.

    Raises CheckpointError where none does.
    """
    strange = model.changed(
        *("attention_scale", "softmax", "rope_interleaved", "norm", "zero_centered_norms")
    )
    if strange:
        raise CheckpointError(
            f"{', '.join(strange)}: belongs to no family of Hugging Face's that is written"
            f" ({', '.join(FAMILIES)}); train a model without"
        )
    if model.qkv_bias and model.qk_norm:
        raise CheckpointError(
            "model.qkv_bias and model.qk_norm together belong to no family of Hugging Face's that"
            " is written (qwen2 has the one, qwen3 the other); train a model with one of them"
        )
    if model.qkv_bias:
        return "qwen2"
    if model.qk_norm:
        return "qwen3"
    if model.window is not None and (None in model.windows or preferred == "ministral"):
        return "ministral"  # Mistral with a window in some of its layers, but never in none
    # LlamaConfig knows no window, and refuses such widths, even with a head_dim of its own.
    plain = model.window is None and model.hidden % model.heads == 0
    return "llama" if plain and preferred != "mistral" else "mistral"
