"""Conversion between a Hugging Face config.json and the recipe's model section."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from trainer.checkpoint.format import dtype_name
from trainer.data.tokenizer import Tokenizer
from trainer.errors import CheckpointError
from trainer.recipe import Recipe
from trainer.recipe.model import ModelSection, RopeScaling

FILE = "config.json"
FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""The supported model types, and the class in transformers of each."""

ACTIVATIONS: dict[str, Literal["swiglu", "geglu", "geglu_tanh"]] = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu": "geglu",
    "gelu_pytorch_tanh": "geglu_tanh",
}
"""`model.activation` by transformers' `hidden_act`; of synonyms the first is written."""


LAYER_TYPES: dict[str, Literal["local", "global"]] = {
    "sliding_attention": "local",
    "full_attention": "global",
}
"""Values of `model.window_pattern` by those of transformers' `layer_types`."""

Pattern = tuple[Literal["local", "global"], ...]


@dataclass(frozen=True)
class ModelDescription:
    """A config.json: its `keys` unchanged, and the model section and sequence length they give."""

    family: str
    keys: dict[str, Any]
    model: ModelSection
    sequence_length: int


def read_config(folder: Path) -> tuple[ModelDescription, bytes]:
    """A folder's config.json, parsed, and its bytes.

    Raises CheckpointError where it is missing, damaged, or of an unsupported model.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}; name a folder as save_pretrained writes it"
        ) from None
    return describe(content, str(path)), content


def describe(content: bytes, where: str) -> ModelDescription:
    """Parse the content of a config.json; `where`: its name in errors.

    Raises CheckpointError for any key that our model cannot reproduce exactly.
    """
    try:
        keys = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{where} is damaged: {error}; fetch it again") from None
    if not isinstance(keys, dict):
        raise CheckpointError(f"{where} is damaged: it holds no object; fetch it again")
    family = _family(keys, where)
    config = _resolved(family, keys, where)
    _refuse_strange(config, where)
    window, pattern = _window(family, config, where)
    model = ModelSection(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        ffn=config.intermediate_size,
        activation=ACTIVATIONS[config.hidden_act],
        vocab=config.vocab_size,
        head_size=_head_size(config),
        tied_embeddings=config.tie_word_embeddings,
        padding_token=_padding(config, where),
        window=window,
        window_pattern=pattern,
        qk_norm=family == "qwen3",
        qkv_bias=family == "qwen2",
        rope_theta=config.rope_parameters["rope_theta"],
        rope_scaling=_scaling(config.rope_parameters, where),
        norm_eps=config.rms_norm_eps,
        init_std=config.initializer_range or 0.02,
    )
    return ModelDescription(family, keys, model, config.max_position_embeddings)


def conversion_recipe(
    model: ModelSection, sequence_length: int, precision: str, run: str
) -> Recipe:
    """A minimal recipe for an imported model; its one step is never trained."""
    return Recipe.from_keys(
        {
            "run": run,
            "steps": 1,
            "sequence_length": sequence_length,
            "precision": precision,
            "model": model.model_dump(mode="json"),
            "batch": {"sequences": 1, "micro": 1},
            "optimizer": {"lr": 1e-5},
        }
    )


def config_of(
    model: ModelSection, sequence_length: int, dtype: torch.dtype, tokenizer: Tokenizer
) -> dict[str, Any]:
    """The keys of config.json for a model section.

    Raises CheckpointError where none of FAMILIES computes the model.
    """
    family = _family_of(model)
    rope = _rope_parameters(model)
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
        "max_position_embeddings": sequence_length,
        "initializer_range": model.init_std,
        "rms_norm_eps": model.norm_eps,
        "tie_word_embeddings": model.tied_embeddings,
        "rope_parameters": rope,
        # The same for readers that know the older keys only.
        "rope_theta": model.rope_theta,
        "rope_scaling": None if rope["rope_type"] == "default" else rope,
        "attention_dropout": 0.0,
        **_window_keys(family, model),
        **({"attention_bias": False, "mlp_bias": False} if family == "llama" else {}),
        **({"attention_bias": False} if family == "qwen3" else {}),
        "bos_token_id": tokenizer.start[0] if tokenizer.start else None,
        "eos_token_id": sorted(tokenizer.ends),
        # It also says which row gets no gradient; what pads while writing is generation_config's.
        "pad_token_id": model.padding_token,
        "dtype": dtype_name(dtype),
        "torch_dtype": dtype_name(dtype),
    }


def _family(keys: dict[str, Any], where: str) -> str:
    family = keys.get("model_type")
    if family not in FAMILIES:
        raise CheckpointError(
            f"{where}: model_type is {family!r}; of those that are known "
            f"({', '.join(FAMILIES)}) choose a model"
        )
    architectures = keys.get("architectures") or [FAMILIES[family]]
    if FAMILIES[family] not in architectures:
        raise CheckpointError(
            f"{where}: architectures is {architectures}, not {FAMILIES[family]}: it has another"
            " head; choose a language model"
        )
    for key, what in (("quantization_config", "quantized"), ("auto_map", "code of its own")):
        if keys.get(key):
            raise CheckpointError(
                f"{where}: {key} is set ({what}), which is not read; choose a plain model"
            )
    return str(family)


def _resolved(family: str, keys: dict[str, Any], where: str) -> Any:
    """The configuration as transformers reads it, with defaults and older spellings resolved."""
    from transformers import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[family].from_dict(dict(keys))
    except Exception as error:  # its validators raise several types without a common base
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{where} is not a {family} configuration: {reason}") from None


def _refuse_strange(config: Any, where: str) -> None:
    if config.hidden_act not in ACTIVATIONS:
        raise CheckpointError(
            f"{where}: hidden_act is {config.hidden_act!r}, and {', '.join(ACTIVATIONS)} are"
            " computed; choose another model"
        )
    for key in ("attention_bias", "mlp_bias"):
        if getattr(config, key, False):
            raise CheckpointError(
                f"{where}: {key} is true, and of biases only Qwen2's are computed; choose another"
                " model"
            )


def _padding(config: Any, where: str) -> int | None:
    """The padding token's row; transformers counts a negative one from the end."""
    token: int | None = config.pad_token_id
    if token is None:
        return None
    if not -config.vocab_size <= token < config.vocab_size:
        raise CheckpointError(
            f"{where}: pad_token_id is {token}, and there are {config.vocab_size} rows; set it to"
            " null, or to a token's id"
        )
    return token % int(config.vocab_size)


def _head_size(config: Any) -> int | None:
    width: int | None = getattr(config, "head_dim", None)
    usual = config.hidden_size / config.num_attention_heads
    return None if width is None or width == usual else width


def _scaling(rope: dict[str, Any], where: str) -> RopeScaling | None:
    kind = rope.get("rope_type", "default")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            f"{where}: partial_rotary_factor is {rope['partial_rotary_factor']}, and whole heads"
            " are rotated here; choose another model"
        )
    if kind == "default":
        return None
    if kind == "linear":
        # No channel turns once in a single token, so all are stretched by the whole factor.
        return RopeScaling(factor=rope["factor"], original_context=1)
    if kind == "llama3":
        return RopeScaling(
            factor=rope["factor"],
            low_frequency_factor=rope["low_freq_factor"],
            high_frequency_factor=rope["high_freq_factor"],
            original_context=rope["original_max_position_embeddings"],
        )
    raise CheckpointError(
        f"{where}: the rope type is {kind!r}, and default, linear and llama3 are computed; choose"
        " another model"
    )


def _rope_parameters(model: ModelSection) -> dict[str, Any]:
    scaling = model.rope_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": model.rope_theta}
    stretched = {"rope_theta": model.rope_theta, "factor": scaling.factor}
    if scaling.original_context <= 2 * math.pi * scaling.low_frequency_factor:
        return {"rope_type": "linear", **stretched}
    return {
        "rope_type": "llama3",
        **stretched,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_context,
    }


def _window(family: str, config: Any, where: str) -> tuple[int | None, Pattern | None]:
    """`model.window` and `model.window_pattern` of a configuration; None: all layers global."""
    window: int | None = getattr(config, "sliding_window", None)
    if family == "mistral":
        return window, None
    types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    if unknown := sorted(set(types) - set(LAYER_TYPES)):
        raise CheckpointError(
            f"{where}: layer_types names {', '.join(unknown)}, and {', '.join(LAYER_TYPES)} are"
            " computed; choose another model"
        )
    pattern = tuple(LAYER_TYPES[kind] for kind in types)
    if window is None or "local" not in pattern:
        return None, None
    return window, _shortest(pattern)


def _shortest(pattern: Pattern) -> Pattern | None:
    """The shortest pattern whose repetition begins with this one; None where all are local."""
    for length in range(1, len(pattern)):
        if all(kind == pattern[layer % length] for layer, kind in enumerate(pattern)):
            pattern = pattern[:length]
            break
    return None if pattern == ("local",) else pattern


def _window_keys(family: str, model: ModelSection) -> dict[str, Any]:
    """The keys of config.json for `model.window` and `model.window_pattern`."""
    if model.window is None:
        return {"sliding_window": None}
    keys: dict[str, Any] = {"sliding_window": model.window}
    if family == "mistral":
        return keys
    types = {ours: theirs for theirs, ours in LAYER_TYPES.items()}
    kinds = [types["local" if window is not None else "global"] for window in model.windows]
    # Both spellings: older readers know only the number of layers with full attention.
    full = kinds.count(types["global"])
    return keys | {"use_sliding_window": True, "max_window_layers": full, "layer_types": kinds}


def _family_of(model: ModelSection) -> str:
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
    if model.window is not None and None in model.windows:
        raise CheckpointError(
            "model.window_pattern: layers of both kinds belong to qwen2 and qwen3 alone of the"
            " families of Hugging Face's that are written; train a model with model.qkv_bias or"
            " model.qk_norm, or with one kind of layer"
        )
    # LlamaConfig knows no window, and refuses such widths, even with a head_dim of its own.
    plain = model.window is None and model.hidden % model.heads == 0
    return "llama" if plain else "mistral"
