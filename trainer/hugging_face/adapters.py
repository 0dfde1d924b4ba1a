"""Export of LoRA adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import saved_recipe
from trainer.checkpoint.lora_base import holds_adapters, recorded_path
from trainer.errors import CheckpointError, RecipeError
from trainer.model.lora.targets import adapted_names, adapter_name
from trainer.recipe.fine_tuning import LoraSection
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import LINEARS, block_linears

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def export_adapter_command(checkpoint: Path, folder: Path, base: str | None = None) -> Path:
    """Write a checkpoint's adapters, bit for bit, to a new folder in PEFT's format; returns it.

    `checkpoint`: a checkpoint of a LoRA run, or the run (its newest good one); `base`: the base
    model's name or path for PEFT, such as the folder that it was exported to (None: the base's
    checkpoint). The base itself is not read. Raises CheckpointError where the checkpoint is damaged
    or has no adapters, RecipeError where the folder is not empty or cannot be written.
    """
    reader = CheckpointReader(resolve_checkpoint(checkpoint))
    recipe = saved_recipe(reader)
    if recipe.lora is None or not holds_adapters(reader):
        raise CheckpointError(
            f"checkpoint {reader.folder} holds all weights and no adapters; export it without"
            " --adapter"
        )
    model = ModelSection(**reader.model)
    tensors = dict(_tensors(reader, recipe.lora, model))
    known = base if base is not None else str(recorded_path(reader))
    config = json.dumps(adapter_config(recipe.lora, model.layers, known), indent=2) + "\n"
    _write(Path(folder), config, tensors)
    return Path(folder)


def adapter_config(lora: LoraSection, layers: int, base: str) -> dict[str, Any]:
    """PEFT's LoraConfig for the adapters of a model of so many `layers`, as JSON values."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.scale * lora.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
        "target_modules": target_modules(lora, layers),
        "use_dora": False,
        "use_rslora": False,
    }


def target_modules(lora: LoraSection, layers: int) -> list[str] | str:
    """PEFT's `target_modules`: a list of names where each is adapted in every block, otherwise a
    regular expression that matches exactly the adapted linears.
    """
    adapted = adapted_names(lora, layers)
    blocks: dict[str, list[str]] = {}
    for name in adapted:
        _model, _layers, block, linear = name.split(".", 3)
        blocks.setdefault(linear, []).append(block)
    if all(len(where) == layers for where in blocks.values()):
        found = {linear.rpartition(".")[2] for linear in blocks}
        return [linear for linear in LINEARS if linear in found]
    return "|".join(
        rf"model\.layers\.({'|'.join(where)})\.{re.escape(linear)}"
        for linear, where in blocks.items()
    )


def _tensors(
    reader: CheckpointReader, lora: LoraSection, model: ModelSection
) -> Iterator[tuple[str, Tensor]]:
    ours = {part: linear.name for linear in block_linears(model) for part in linear.parts}
    for name in adapted_names(lora, model.layers):
        block, linear = int(name.split(".")[2]), name.rpartition(".")[2]
        for matrix in ("A", "B"):
            key = f"model/{adapter_name(ours[linear], block, linear, matrix)}"
            yield f"base_model.model.{name}.lora_{matrix}.weight", reader.read(key)


def _write(folder: Path, config: str, tensors: dict[str, Tensor]) -> None:
    """Write the folder with both files, whole or not at all."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder}: is there already, and is not empty; name a new folder")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        (partial / CONFIG).write_text(config, encoding="utf-8")
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        if folder.exists():
            folder.rmdir()
        os.rename(partial, folder)
    except OSError as error:
        raise RecipeError(
            f"{folder}: cannot be written ({error.strerror}); name another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
