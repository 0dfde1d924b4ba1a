"""PEFT's adapter_config.json as it is written: its keys, and which of them are not computed here.

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint, and peft 0.21's LoraConfig.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.errors import CheckpointError
from trainer.parsing import read_json

CONFIG = "adapter_config.json"
BASE_FOLDER = "base"
"""The folder, inside that of the adapters, in which their base is written."""

_READ = {
    *("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "modules_to_save", "ensure_weight_tying"),
    *("layers_to_transform", "layers_pattern", "init_lora_weights", "lora_dropout", "bias"),
    *("base_model_name_or_path", "revision"),
}
_WITHOUT_MEANING = {
    *("inference_mode", "auto_mapping", "peft_version", "megatron_core"),
    # PEFT sets it to false beside a linear layer, and no model here has another kind.
    "fan_in_fan_out",
    # How the first weights were found; they are in the file.
    *("eva_config", "corda_config", "loftq_config", "lora_ga_config"),
    # Of what is refused by another key, and PEFT's own settings while it runs.
    *("qalora_group_size", "runtime_config"),
}
_BASE_AS_IT_IS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base's weights alone, and all of them to learn."""
_BASE_CHANGED = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of those that subtract the first adapters from the base's weights."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_layers(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("target_modules", "exclude_modules", "layers_pattern"),
        (lambda value: _is_text(value) or _is_names(value), "a list of names or one text"),
    ),
    "modules_to_save": (_is_names, "a list of names"),
    "layers_to_transform": (_is_layers, "a layer's number or a list of them"),
    **dict.fromkeys(
        ("rank_pattern", "alpha_pattern"),
        (lambda value: isinstance(value, dict) or value == [], "an object of numbers by name"),
    ),
    **dict.fromkeys(
        ("use_rslora", "ensure_weight_tying"),
        (lambda value: isinstance(value, bool), "true or false"),
    ),
    "lora_dropout": (_is_number, "a number"),
    **dict.fromkeys(("base_model_name_or_path", "revision"), (_is_text, "a text")),
}
"""What a key's value is, where it is not null, and that in words."""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The keys of a folder's adapter_config.json.

    Raises CheckpointError where it is missing, damaged, or of an adapter that is not computed here.
    """
    path = folder / CONFIG
    try:
        keys = read_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; fetch it again") from None
    if not isinstance(keys, dict):
        raise CheckpointError(f"{path} is damaged: it holds no object; fetch it again")
    _refuse_strange(keys, path)
    return keys


def _refuse_strange(keys: dict[str, Any], path: Path) -> None:
    def refuse(key: str, why: str) -> None:
        value = json.dumps(keys.get(key))
        raise CheckpointError(f"{path}: {key} is {value}, {why}")

    if keys.get("peft_type") != "LORA":
        refuse("peft_type", "and LORA alone is computed; merge it with PEFT, and import the model")
    if keys.get("task_type") not in (None, "CAUSAL_LM"):
        refuse("task_type", "and adapters of language models (CAUSAL_LM) are computed")
    if keys.get("bias", "none") not in ("none", None):
        refuse("bias", "and biases do not train here; merge it with PEFT, and import the model")
    _check_first_weights(keys.get("init_lora_weights", True), refuse)
    for key, value in keys.items():
        if value and key not in _READ and key not in _WITHOUT_MEANING:
            refuse(key, "which is not computed here; merge it with PEFT, and import the model")
        if value is not None and key in _KINDS and not _KINDS[key][0](value):
            refuse(key, f"and not {_KINDS[key][1]}; mend it, or let PEFT save it again")


def _check_first_weights(value: Any, refuse: Callable[[str, str], None]) -> None:
    known = value.lower() if isinstance(value, str) else value
    if isinstance(known, str) and known.startswith(_BASE_CHANGED):
        refuse(
            "init_lora_weights",
            "which changes the base's own weights; let PEFT convert it to plain LoRA"
            " (save_pretrained with path_initial_model_for_weight_conversion)",
        )
    if known not in _BASE_AS_IT_IS:
        refuse(
            "init_lora_weights",
            "which is not computed here; merge it with PEFT, and import the model",
        )
