"""PEFT's adapter_config.json for LoRA as the recipe's `lora`, both ways.

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint, and peft 0.21's own reading.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import CheckpointError
from trainer.model.lora.targets import adapted_names
from trainer.recipe.lora import TABLES, LoraSection, means_whole
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, HEAD, LINEARS, linear_names, modules

_T = TypeVar("_T")


def lora_of(keys: Mapping[str, Any], model: ModelSection, path: Path) -> LoraSection:
    """The recipe's section for an adapter on this base, without `modules_to_save`.

    Raises CheckpointError where the keys contradict each other or name nothing of the model.
    """
    names = [*linear_names(model.layers), *TABLES]
    adapted = [name for name in names if _is_target(keys, name, path)]
    if not adapted:
        raise CheckpointError(f"{path}: target_modules names nothing of the base; is it another's?")
    ranks = _of_patterns(keys, "r", "rank_pattern", adapted, path)
    alphas = _of_patterns(keys, "lora_alpha", "alpha_pattern", adapted, path)
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
    other module that the configuration does not name, and for one that it names and is not there.
    """
    ends, every = keys.get("modules_to_save") or (), _every_module(model)
    for name in saved:
        tied = name in TABLES and lora.ensure_weight_tying
        if name not in TABLES and not tied and not any(means_whole(end, name) for end in ends):
            raise CheckpointError(f"{path}: modules_to_save does not name {name}, which is saved")
    for name in every:
        if name not in saved and any(means_whole(end, name) for end in ends):
            raise CheckpointError(
                f"{path}: modules_to_save names {name}, of which the adapter's file holds nothing;"
                " save the adapter again"
            )
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


def _of_patterns(
    keys: Mapping[str, Any], key: str, pattern_key: str, names: list[str], path: Path
) -> dict[str, Any]:
    """Each module's rank or alpha as PEFT finds it (utils.other.get_pattern_key): the first of the
    patterns that matches, or what `key` says for all.
    """
    patterns = keys.get(pattern_key) or {}
    found = {}
    for name in names:
        matching = (
            value
            for pattern, value in patterns.items()
            if _matches(rf"(.*\.)?({pattern})$", name, path, pattern_key)
        )
        value = next(matching, keys.get(key))
        kinds = int if key == "r" else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
            number = "whole number" if key == "r" else "number"
            raise CheckpointError(f"{path}: {key} of {name} is {value!r}, and no {number} above 0")
        found[name] = value
    return found


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
            if {name for name in every if means_whole(end, name)} <= set(saved)
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
