"""Export of LoRA adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import TOKENIZER, saved_files, saved_recipe, saved_tokenizer
from trainer.checkpoint.fitted import FittedReader, new_rows, used_rows, without_padding
from trainer.checkpoint.lora_base import find_base, holds_adapters
from trainer.errors import CheckpointError, RecipeError
from trainer.hugging_face.adapter_config import adapter_config
from trainer.hugging_face.adapter_keys import BASE_FOLDER, CONFIG
from trainer.hugging_face.exporting import export_weights
from trainer.hugging_face.names import tensor_map
from trainer.hugging_face.weights import CheckpointWeights
from trainer.model.lora.targets import adapted_names, adapter_names
from trainer.recipe.lora import LoraSection, saved_modules
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, HEAD

WEIGHTS = "adapter_model.safetensors"


def export_adapter_command(
    checkpoint: Path, folder: Path, base: str | None = None, shard_gb: float = 5.0
) -> Path:
    """Write a checkpoint's adapters, bit for bit, to a new folder in PEFT's format; returns it.

    Beside them stand the tokenizer and its chat template. `checkpoint`: a checkpoint of a LoRA run,
    or the run (its newest good one); `base`: the base model's name or path for PEFT; None: the base
    is written too, to `folder`/base in files of `shard_gb` gigabytes at most, and named by its
    absolute path. Raises CheckpointError where
    the checkpoint or its base is damaged, or has no adapters, RecipeError where the folder is not
    empty or cannot be written.
    """
    reader = CheckpointReader(resolve_checkpoint(checkpoint))
    recipe = saved_recipe(reader)
    if recipe.lora is None or not holds_adapters(reader):
        raise CheckpointError(
            f"checkpoint {reader.folder} holds all weights and no adapters; export it without"
            " --adapter"
        )
    folder = Path(folder)
    _check_free(folder)
    model = ModelSection(**reader.model)
    if base is not None:
        _check_base(reader, model)
    known = base if base is not None else str((folder / BASE_FOLDER).resolve())
    config = json.dumps(adapter_config(recipe.lora, model, known), indent=2) + "\n"
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        (partial / CONFIG).write_text(config, encoding="utf-8")
        tensors = dict(_tensors(reader, recipe.lora, model))
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        for name, content in saved_files(reader, TOKENIZER).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        if base is None:
            export_base(reader, model, partial / BASE_FOLDER, shard_gb)
        if folder.exists():
            folder.rmdir()
        os.rename(partial, folder)
    except OSError as error:
        raise RecipeError(
            f"{folder}: cannot be written ({error.strerror}); name another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _check_base(adapters: CheckpointReader, model: ModelSection) -> None:
    """Raise CheckpointError where the run read its base through another rotation or window: PEFT
    would read it through its own.
    """
    try:
        base = ModelSection(**CheckpointReader(find_base(adapters).folder).model)
    except CheckpointError:
        return  # gone: nothing is known of it
    names = ("rope_theta", "rope_scaling", "windows")
    if changed := [name for name in names if getattr(base, name) != getattr(model, name)]:
        raise CheckpointError(
            f"checkpoint {adapters.folder}: the run changed its base's {', '.join(changed)}, which"
            " a base named by --base has not; leave --base out, or export without --adapter"
        )


def export_base(
    adapters: CheckpointReader, model: ModelSection, folder: Path, shard_gb: float = 5.0
) -> None:
    """Write the base of adapters as a model folder, with the rows and the tokenizer that they have.

    `model`: that of the adapters, which they were trained as; tied as the base is. Rows of tokens
    that were added to the base are there as they were before training.
    """
    base = CheckpointReader(find_base(adapters).folder)
    theirs = ModelSection(**base.model)
    grown = theirs.model_copy(update={"vocab": used_rows(model), "padding_rows": 0})
    known, tokenizer = saved_tokenizer(base), saved_tokenizer(adapters)
    new = new_rows(known, tokenizer, theirs)
    weights = CheckpointWeights(FittedReader(base, grown, known.size, new))
    export_weights(adapters, weights, folder, shard_gb=shard_gb)


def _tensors(
    reader: CheckpointReader, lora: LoraSection, model: ModelSection
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the adapters and of the modules that trained whole, by PEFT's name."""
    for name in adapted_names(lora, model.layers):
        for matrix, ours in zip("AB", adapter_names(model, name), strict=True):
            end = f"embedding_{matrix}" if name == EMBEDDING else f"{matrix}.weight"
            values = reader.read(f"model/{ours}")
            if (name, matrix) == (EMBEDDING, "A"):
                values = values[:, : used_rows(model)].contiguous()
            if (name, matrix) == (HEAD, "B"):
                values = values[: used_rows(model)]
            yield f"base_model.model.{name}.lora_{end}", values
    whole, weights = saved_modules(lora, model), without_padding(reader)
    for joined in tensor_map(model.model_copy(update={"vocab": used_rows(model)})):
        if joined.name.rpartition(".")[0] not in whole:
            continue
        values = weights.read(f"model/{joined.name}")
        for part in joined.parts:
            taken = part.take(lambda first, last, v=values: v[first:last], values.dtype)  # type: ignore[misc]
            yield f"base_model.model.{part.name}", taken.contiguous()
            if model.tied_embeddings and part.name == f"{EMBEDDING}.weight":
                yield f"base_model.model.{HEAD}.weight", taken.clone()


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder}: is there already, and is not empty; name a new folder")
