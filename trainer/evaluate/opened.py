"""Opening a checkpoint for inference, at any layout that the started ranks can form."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import (
    Reader,
    open_trained,
    saved_recipe,
    saved_tokenizer,
    trained_length,
)
from trainer.checkpoint.folders import say_what_is_passed_over
from trainer.checkpoint.state import load_weights
from trainer.data.tokenizer import Tokenizer
from trainer.errors import RecipeError
from trainer.evaluate.converted import readable_checkpoint
from trainer.hub.names import as_written
from trainer.model.transformer import LanguageModel, build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe
from trainer.recipe.own_sets import asks_its_base
from trainer.recipe.reading import override
from trainer.recipe.recipe import PRECISIONS
from trainer.recipe.rope import readable_length
from trainer.recipe.stages import STAGES


@dataclass(frozen=True)
class OpenedModel:
    """A trained model: its checkpoint's folder and step, recipe, layout, chunks and tokenizer.

    `longest`: tokens of the longest text that it is meant to read, whatever its last stage's
    sequence length; `source`: another program's model that `folder` was converted from, as it was
    named, None for a checkpoint; `trained`: tokens of the longest text that it was trained on, of
    which a stretched rotation may reach further (None: as `longest`).
    """

    folder: Path
    step: int
    recipe: Recipe
    layout: Layout
    chunks: list[LanguageModel]
    tokenizer: Tokenizer
    longest: int
    source: str | None = None
    trained: int | None = None


@contextmanager
def open_model(
    checkpoint: Path, world_size: int, overrides: Sequence[str] = ()
) -> Iterator[OpenedModel]:
    """Open a checkpoint folder, or a run's newest good checkpoint, on `world_size` ranks.

    Or a Hugging Face model folder, or a GGUF file (`readable_checkpoint`). Collective. `overrides`:
    `parallel.*` keys of the layout and `precision`, as KEY=VALUE. Raises CheckpointError for a
    checkpoint that is missing or damaged, RecipeError where its model does not fit the layout that
    is asked for.
    """
    keys = reading_keys(overrides)
    readable = readable_checkpoint(checkpoint)
    source = None if readable == checkpoint else as_written(checkpoint)
    folder = resolve_checkpoint(readable)
    if os.environ.get("RANK", "0") == "0":
        say_what_is_passed_over(readable, folder)
    saved = saved_recipe(CheckpointReader(folder))
    reader = open_trained(folder)
    if "precision" in keys:
        saved = saved.model_copy(update={"precision": keys["precision"]})
    elif reader.step == 0 and _holds_fp16(reader):
        # Imported and never trained: bf16 would take three of the weights' eleven bits.
        saved = saved.model_copy(update={"precision": "fp32"})
    recipe = reading_recipe(saved, world_size, keys.get("parallel"))
    layout = create_layout(recipe)
    try:
        assert recipe.model.vocab is not None, "a saved recipe is resolved"
        chunks = build_model(recipe, recipe.model.vocab, layout)
        load_weights(reader, chunks)
        for chunk in chunks:
            chunk.eval()
        tokenizer = saved_tokenizer(reader)
        trained = trained_length(reader)
        longest = readable_length(recipe.model.rope_scaling, trained)
        model = folder, reader.step, recipe, layout, chunks, tokenizer, longest
        yield OpenedModel(*model, source, trained)
    finally:
        leave()


def _holds_fp16(reader: Reader) -> bool:
    weights = [key for key in reader.keys() if key.startswith("model/")]  # noqa: SIM118 (no dict)
    return any(reader.dtype(key) == torch.float16 for key in weights)


def reading_keys(overrides: Sequence[str]) -> dict[str, Any]:
    """What KEY=VALUE overrides set of how a model is read: keys of `parallel`, and `precision`.

    Raises RecipeError for any other key: reading has these, and nothing else of a recipe.
    """
    keys: dict[str, Any] = {}
    for text in overrides:
        parts = override(keys, text)
        if parts == ("precision",):
            if keys["precision"] not in PRECISIONS:
                raise RecipeError(f"{text!r}: is no precision; give {' or '.join(PRECISIONS)}")
        elif parts[0] != "parallel" or len(parts) != 2:
            raise RecipeError(
                f"{text!r}: a model is read at a layout and in a precision, as parallel.pipeline=2"
                " and precision=bf16; leave other keys out"
            )
    return keys


def reading_recipe(
    recipe: Recipe, world_size: int, parallel: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe without what only training needs, at a layout for `world_size` ranks.

    Adapters are not merged into their base, as in training: in bf16 small ones would be lost.
    `parallel`: keys of that section; those that are missing have their default, and data
    parallelism is what is left. Without any the layout has as much tensor parallelism as the sizes
    allow, as many pipeline stages beyond that, and replicas for the rest. Raises RecipeError where
    the layout does not fit.
    """
    keys = recipe.model_dump(mode="json")
    keys |= {"zero": {"stage": 0}, "recompute": "none", "device": "auto"}
    based = recipe.lora is not None or asks_its_base(recipe)
    keys["init_from"] = recipe.init_from if based else None
    keys["evaluate"]["gates"] = []  # those beside the base are not without it
    keys["kernels"] = {}
    keys |= {"added_tokens": [], "added_special_tokens": []}  # the checkpoint has them
    if parallel:
        return _at_layout(keys, parallel, world_size)
    divisors = [size for size in range(world_size, 0, -1) if world_size % size == 0]
    pairs = [
        (one, other) for one in divisors for other in divisors if world_size % (one * other) == 0
    ]
    for tensor, pipeline in pairs:
        if (recipe.model.vocab or 0) % tensor == 0:
            with suppress(RecipeError):
                return _at_layout(keys, {"tensor": tensor, "pipeline": pipeline}, world_size)
    return _at_layout(keys, {"tensor": 1}, world_size)


def _at_layout(keys: dict[str, Any], parallel: Mapping[str, Any], world_size: int) -> Recipe:
    """The recipe of `keys` at a layout, with as many sequences a step as its ranks need."""
    micro = keys["batch"]["micro"]
    keys = {**keys, "parallel": dict(parallel)}
    # No step is made: the number only has to divide, by the answers to a question too.
    group = keys["reinforce"]["group"] if STAGES[keys["stage"]].asks else 1
    keys["batch"] = {"sequences": micro * world_size * group, "micro": micro}
    found = Recipe.from_keys(keys, "the layout")
    found.validate_world(world_size, "cuda")
    return found
