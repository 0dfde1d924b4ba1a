"""The rows that every loop of a comparison reads: the recipe's own stream."""

from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path

import torch

from trainer.bench.bare import IGNORE, Rows
from trainer.data.loader import Loader
from trainer.data.stream import stream_arguments
from trainer.data.tokenizer import load_tokenizer
from trainer.recipe import Recipe
from trainer.recipe.rules import VOCABULARY_MULTIPLE


def vocabulary(recipe: Recipe, folders: Sequence[str | Path]) -> int:
    """Rows of the embedding: the recipe's, or as many as the corpus's tokenizer needs."""
    if recipe.model.vocab is not None:
        return recipe.model.vocab
    folder = recipe.tokenizer or Path(str(folders[0])) / "tokenizer"
    size = load_tokenizer(folder, recipe.data.remote).size
    return -(-size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def batches(
    recipe: Recipe, folders: Sequence[str | Path], workers: int | None = None
) -> Generator[Rows, None, None]:
    """Global batches on the host, each (tokens, labels, position_ids) [sequences, length]."""
    loader = Loader(
        stream_arguments(recipe, list(folders)),
        global_batch=recipe.batch.sequences,
        rows=range(recipe.batch.sequences),
        workers=recipe.data.workers if workers is None else workers,
        prefetch=recipe.data.prefetch,
    )
    try:
        for batch in loader:
            yield batch.tokens, batch.labels, batch.position_ids
    finally:
        loader.close()


def first_batches(recipe: Recipe, folders: Sequence[str | Path], count: int) -> list[Rows]:
    """The first `count` global batches, read in this process."""
    stream = batches(recipe, folders, workers=0)
    try:
        return list(islice(stream, count))
    finally:
        stream.close()


def on_device(rows: Rows, device: torch.device) -> Rows:
    """The rows on the device, through pinned memory where there is such."""
    if device.type == "cuda":
        rows = tuple(part.pin_memory() for part in rows)  # type: ignore[assignment]
    tokens, labels, position_ids = (part.to(device, non_blocking=True) for part in rows)
    return tokens, labels, position_ids


def supervised(rows: Rows) -> int:
    """Positions with a label; the rows are on the host."""
    return int((rows[1] != IGNORE).sum())
