"""Opening a checkpoint for inference, at any layout that the started ranks can form."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import (
    Reader,
    open_trained,
    saved_recipe,
    saved_tokenizer,
    trained_length,
)
from trainer.checkpoint.state import load_weights
from trainer.data.tokenizer import Tokenizer
from trainer.errors import RecipeError
from trainer.evaluate.converted import readable_checkpoint
from trainer.model.transformer import LanguageModel, build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe
from trainer.recipe.rope import readable_length


@dataclass(frozen=True)
class OpenedModel:
    """A trained model: its checkpoint's folder and step, recipe, layout, chunks and tokenizer.

    `longest`: tokens of the longest text that it is meant to read, whatever its last stage's
    sequence length.
    """

    folder: Path
    step: int
    recipe: Recipe
    layout: Layout
    chunks: list[LanguageModel]
    tokenizer: Tokenizer
    longest: int


@contextmanager
def open_model(checkpoint: Path, world_size: int) -> Iterator[OpenedModel]:
    """Open a checkpoint folder, or a run's newest good checkpoint, on `world_size` ranks.

    Or a Hugging Face model folder, or a GGUF file (`readable_checkpoint`). Collective. Raises
    CheckpointError for a checkpoint that is missing or damaged, RecipeError where its model does
    not fit the ranks.
    """
    folder = resolve_checkpoint(readable_checkpoint(checkpoint))
    saved = saved_recipe(CheckpointReader(folder))
    reader = open_trained(folder)
    if reader.step == 0 and _holds_fp16(reader):
        # Imported and never trained: bf16 would take three of the weights' eleven bits.
        saved = saved.model_copy(update={"precision": "fp32"})
    recipe = reading_recipe(saved, world_size)
    layout = create_layout(recipe)
    try:
        assert recipe.model.vocab is not None, "a saved recipe is resolved"
        chunks = build_model(recipe, recipe.model.vocab, layout)
        load_weights(reader, chunks)
        tokenizer = saved_tokenizer(reader)
        longest = readable_length(recipe.model.rope_scaling, trained_length(reader))
        yield OpenedModel(folder, reader.step, recipe, layout, chunks, tokenizer, longest)
    finally:
        leave()


def _holds_fp16(reader: Reader) -> bool:
    weights = [key for key in reader.keys() if key.startswith("model/")]  # noqa: SIM118 (no dict)
    return any(reader.dtype(key) == torch.float16 for key in weights)


def reading_recipe(recipe: Recipe, world_size: int) -> Recipe:
    """The recipe without what only training needs, at a layout for `world_size` ranks.

    Adapters are not merged into their base, as in training: in bf16 small ones would be lost. The
    layout has as much tensor parallelism as the sizes allow, and pipeline stages beyond that.
    Raises RecipeError where no such layout fits.
    """
    keys = recipe.model_dump(mode="json")
    keys |= {"zero": {"stage": 0}, "recompute": "none", "device": "auto"}
    keys["init_from"] = recipe.init_from if recipe.lora is not None else None
    keys["batch"] = {"sequences": recipe.batch.micro, "micro": recipe.batch.micro}
    keys["kernels"] = {}
    keys |= {"added_tokens": [], "added_special_tokens": []}  # the checkpoint has them
    for tensor in range(world_size, 0, -1):
        if world_size % tensor or (recipe.model.vocab or 0) % tensor:
            continue
        keys["parallel"] = {"tensor": tensor, "pipeline": world_size // tensor}
        try:
            fitting = Recipe.from_keys(keys)
            fitting.validate_world(world_size, "cuda")
        except RecipeError:
            continue
        return fitting
    model = recipe.model
    raise RecipeError(
        f"{world_size} ranks cannot share out {model.layers} layers of {model.heads} heads "
        f"({model.kv_heads or model.heads} key/value heads); start another number (--nproc)"
    )
