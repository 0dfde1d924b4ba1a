"""PEFT's adapter_config.json for LoRA, both ways; what is not computed here is refused by name.

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint, and peft 0.21's own reading.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import CheckpointError
from trainer.model.lora.targets import adapted_names
from trainer.recipe.lora import TABLES, LoraSection
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, HEAD, LINEARS, linear_names, modules

CONFIG = "adapter_config.json"

_T = TypeVar("_T")
_READ = {
    *("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "modules_to_save", "ensure_weight_tying"),
    *("layers_to_transform", "layers_pattern", "init_lora_weights", "lora_dropout", "bias"),
    *("base_model_name_or_path",),
}
_WITHOUT_MEANING = {
    *("revision", "inference_mode", "auto_mapping", "peft_version", "megatron_core"),
    # PEFT sets it to false beside a linear layer, and no model here has another kind.
    "fan_in_fan_out",
    # How the first weights were found; they are in the file.
    *("eva_config", "corda_config", "loftq_config", "lora_ga_config"),
    # Of what is refused by another key, and PEFT's own settings while it runs.
    *("qalora_group_size", "runtime_config"),
}
_OF_BASE_AS_IT_IS = (None, True, False, "gaussian", "eva", "orthogonal", "lora_ga")
"""Values of `init_lora_weights` that leave the base's weights alone."""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The keys of a folder's adapter_config.json.

    Raises CheckpointError where it is missing, damaged, or of an adapter that is not computed here.
    """
    path = folder / CONFIG
    try:
        keys = json.loads(path.read_bytes())
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
    if keys.get("bias", "none") != "none":
        refuse("bias", "and biases do not train here; merge it with PEFT, and import the model")
    if keys.get("init_lora_weights", True) not in _OF_BASE_AS_IT_IS:
        refuse(
            "init_lora_weights",
            "which changes the base's own weights; let PEFT convert it to plain LoRA"
            " (save_pretrained with path_initial_model_for_weight_conversion)",
        )
    for key, value in keys.items():
        if value and key not in _READ and key not in _WITHOUT_MEANING:
            refuse(key, "which is not computed here; merge it with PEFT, and import the model")


def lora_of(keys: Mapping[str, Any], model: ModelSection, path: Path) -> LoraSection:
    """The recipe's section for an adapter on this base, without `modules_to_save`.

    Raises CheckpointError where the keys contradict each other or name nothing of the model.
    """
    names = [*linear_names(model.layers), *TABLES]
    adapted = [name for name in names if _is_target(keys, name, path)]
    if not adapted:
        raise CheckpointError(f"{path}: target_modules names nothing of the base; is it another's?")
    ranks = {name: _of_pattern(keys.get("rank_pattern"), name, keys.get("r")) for name in adapted}
    alphas = {
        name: _of_pattern(keys.get("alpha_pattern"), name, keys.get("lora_alpha"))
        for name in adapted
    }
    for what, found in (("r", ranks), ("lora_alpha", alphas)):
        for name, value in found.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise CheckpointError(f"{path}: {what} of {name} is {value!r}, and not above 0")
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return LoraSection(
        rank=rank,
        alpha=float(alpha),
        rank_pattern=_pattern(ranks, rank),
        alpha_pattern={name: float(value) for name, value in _pattern(alphas, alpha).items()},
        rslora=bool(keys.get("use_rslora")),
        targets=tuple(shortened(adapted, names)),
        ensure_weight_tying=bool(keys.get("ensure_weight_tying")),
    )


def with_saved(
    lora: LoraSection, keys: Mapping[str, Any], saved: list[str], model: ModelSection, path: Path
) -> LoraSection:
    """The section with the modules that the adapter's file holds whole as `modules_to_save`.

    PEFT also saves the tables, unnamed, where they were resized. Raises CheckpointError for any
    other module that the configuration does not name.
    """
    ends = keys.get("modules_to_save") or ()
    for name in saved:
        tied = name in TABLES and lora.ensure_weight_tying
        if name not in TABLES and not tied and not any(name.endswith(end) for end in ends):
            raise CheckpointError(f"{path}: modules_to_save does not name {name}, which is saved")
    every = list(dict.fromkeys([*_every_module(model), *TABLES]))
    return lora.model_copy(update={"modules_to_save": tuple(_ends(saved, every))})


def _every_module(model: ModelSection) -> list[str]:
    return [name for _ours, names in modules(model) for name in names]


def _is_target(keys: Mapping[str, Any], name: str, path: Path) -> bool:
    """Whether PEFT puts an adapter beside this module (tuners_utils.check_target_module_exists)."""
    excluded, saved = keys.get("exclude_modules"), keys.get("modules_to_save")
    if excluded and _means(excluded, name, path, "exclude_modules"):
        return False
    if any(
        _matches(rf"(^|.*\.){one}($|\..*)", name, path, "modules_to_save") for one in saved or ()
    ):
        return False
    targets = keys.get("target_modules")
    if isinstance(targets, str) and targets.lower() == "all-linear":
        return name not in TABLES
    if not isinstance(targets, str | list) or not targets:
        raise CheckpointError(f"{path}: target_modules is {targets!r}; PEFT writes their names")
    if isinstance(targets, str):
        return _means(targets, name, path, "target_modules")
    if name in targets:
        return True
    return _means(targets, name, path, "target_modules") and _in_layers(keys, name, path)


def _in_layers(keys: Mapping[str, Any], name: str, path: Path) -> bool:
    """Whether `layers_to_transform` means the module's block, if it says anything."""
    layers = keys.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    patterns = keys.get("layers_pattern") or [r"[^.]*"]
    found = None
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = _matches(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", name, path, "layers_pattern")
        if found:
            break
    if not found:
        return False
    return int(found["idx"]) in ([layers] if isinstance(layers, int) else layers)


def _means(named: Any, name: str, path: Path, key: str) -> bool:
    """Whether a regular expression over whole names, or a list of their ends, means a module."""
    if isinstance(named, str):
        return _matches(f"(?:{named})\\Z", name, path, key) is not None
    return any(name == one or name.endswith(f".{one}") for one in named)


def _of_pattern(patterns: Any, name: str, otherwise: Any) -> Any:
    """A rank or alpha as PEFT finds it (utils.other.get_pattern_key): the first that matches."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return otherwise


def _matches(pattern: str, name: str, path: Path, key: str) -> "re.Match[str] | None":
    try:
        return re.match(pattern, name)
    except re.error as error:
        raise CheckpointError(f"{path}: {key} is no regular expression: {error}") from None


def shortened(chosen: Iterable[str], names: Iterable[str]) -> list[str]:
    """The modules in few words: the last part of a name where every module that has it is meant."""
    picked, words = list(chosen), {name: name.rpartition(".")[2] for name in names}
    whole = {word for name, word in words.items()} - {
        word for name, word in words.items() if name not in picked
    }
    return list(dict.fromkeys(words[name] if words[name] in whole else name for name in picked))


def _pattern(values: Mapping[str, _T], usual: _T) -> dict[str, _T]:
    """What is not as usual, by name, or by the names' last part where that says the same."""
    found: dict[str, _T] = {}
    for value in dict.fromkeys(values.values()):
        if value != usual:
            mine = [name for name, other in values.items() if other == value]
            found |= dict.fromkeys(shortened(mine, values), value)
    return found


def adapter_config(lora: LoraSection, model: ModelSection, base: str) -> dict[str, Any]:
    """PEFT's LoraConfig for the adapters of a model, as JSON values; `base`: its name or path."""
    adapted = adapted_names(lora, model.layers)
    ranks = {name: lora.rank_of(name) for name in adapted}
    alphas = {name: lora.alpha_of(name) for name in adapted}
    rank, alpha = (Counter(found.values()).most_common(1)[0][0] for found in (ranks, alphas))
    saved = [name for name in _every_module(model) if lora.saves(name)]
    tied = model.tied_embeddings and bool(saved) and saved[0] in TABLES
    if tied:
        saved = [EMBEDDING, HEAD, *(name for name in saved if name not in TABLES)]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {rf"{re.escape(k)}": v for k, v in _pattern(ranks, int(rank)).items()},
        "alpha_pattern": {re.escape(k): v for k, v in _pattern(alphas, alpha).items()},
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": _ends(saved, _every_module(model)) or None,
        "target_modules": target_modules(lora, model.layers),
        "use_dora": False,
        "use_rslora": lora.rslora,
        **({"ensure_weight_tying": True} if tied else {}),
    }


def _ends(saved: list[str], every: list[str]) -> list[str]:
    """Ends of names, as PEFT compares them, that mean these modules and no others."""
    found = shortened(saved, every)
    return [
        one
        for end in found
        for one in (
            [end]
            if {name for name in every if name.endswith(end)} <= set(saved)
            else [name for name in saved if name.endswith(f".{end}") or name == end]
        )
    ]


def target_modules(lora: LoraSection, layers: int) -> list[str] | str:
    """PEFT's `target_modules`: a list of names where each is adapted in every block, otherwise a
    regular expression that matches exactly the adapted modules.
    """
    adapted = adapted_names(lora, layers)
    short = shortened(adapted, [*linear_names(layers), *TABLES])
    if not any(name.startswith("model.layers.") for name in short):
        order = (*LINEARS, *(name.rpartition(".")[2] for name in TABLES))
        return [name for name in order if name in short]
    blocks: dict[str, list[str]] = {}
    for name in adapted:
        if name not in TABLES:
            _model, _layers, block, linear = name.split(".", 3)
            blocks.setdefault(linear, []).append(block)
    return "|".join(
        [
            *(re.escape(name) for name in adapted if name in TABLES),
            *(
                rf"model\.layers\.({'|'.join(where)})\.{re.escape(linear)}"
                for linear, where in blocks.items()
            ),
        ]
    )
