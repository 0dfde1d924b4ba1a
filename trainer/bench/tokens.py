"""A corpus of made tokens: one document a row, in seconds, on a machine that has no text."""

import json
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import tokenizers
import torch

from trainer.bench.bare import IGNORE, BareRows
from trainer.corpus.build.writer import Sample, ShardWriter
from trainer.data.loader import Loader
from trainer.data.manifest import Manifest, token_dtype_for, total_split, write_manifest
from trainer.data.tokenizer import CONFIG_FILE, END_OF_TEXT, MAIN_FILE, Tokenizer
from trainer.errors import DataError, RecipeError
from trainer.recipe import Recipe
from trainer.recipe.rules import rounded_vocabulary
from trainer.sources import Sources

MOST_TOKENS = 16_000_000
"""Steps that want more read the rows again, in another order."""
SHARD_TOKENS = 2_000_000
VOCABULARY = 50_304
"""Where the recipe says none."""


def made_corpus(folder: Path, sequence_length: int, vocab: int, rows: int, seed: int = 0) -> Path:
    """Write a corpus of `rows` documents of random tokens into `folder`, which is returned.

    Packed, each document fills a row of `sequence_length` positions exactly, so that attention over
    the whole row and attention within documents are the same. Tokens are frequent in proportion to
    1 / rank (Zipf), in `vocab` - 1 ranks; token 0 begins and ends a document. What is written
    follows from the arguments alone. Raises RecipeError for a row or vocabulary too small for
    that, DataError where `folder` cannot be written.
    """
    if sequence_length < 2 or vocab < 3:
        raise RecipeError(
            f"made tokens need sequence_length 2 and model.vocab 3 at least, and these are"
            f" {sequence_length} and {vocab}"
        )
    dtype = token_dtype_for(vocab)
    try:
        tokenizer = _tokenizer(vocab)
        tokenizer.save(folder / "tokenizer")
        writer = ShardWriter(folder, "train", dtype, SHARD_TOKENS)
        for sample in _samples(sequence_length, vocab, rows, seed, dtype):
            writer.add(sample, sample.key)
        splits = {"train": total_split(writer.close())}
        manifest = Manifest(
            tokenizer.fingerprint, vocab, tokenizer.end_of_text, dtype, splits, {"made": True}
        )
        write_manifest(folder, manifest)
    except OSError as error:
        raise DataError(
            f"{folder}: made tokens cannot be written ({error.strerror}): set TMPDIR to a folder"
            " with space"
        ) from error
    return folder


def made_recipe(recipe: Recipe, folder: Path, steps: int) -> Recipe:
    """The recipe on made tokens in `folder`, enough of them for `steps` steps or MOST_TOKENS.

    Raises what `made_corpus` raises.
    """
    vocab = recipe.model.vocab or VOCABULARY
    rows = min(recipe.batch.sequences * steps, max(MOST_TOKENS // recipe.sequence_length, 1))
    made_corpus(folder, recipe.sequence_length, vocab, rows, recipe.seed)
    read = {"data.mixture": [{"corpus": str(folder)}], "data.curriculum": []}
    return recipe.replaced({"corpus": None, "tokenizer": None, "model.vocab": vocab} | read)


def _samples(
    sequence_length: int, vocab: int, rows: int, seed: int, dtype: str
) -> Iterator[Sample]:
    generator = np.random.default_rng(seed)
    cumulative = np.cumsum(1.0 / np.arange(1, vocab))
    for number in range(rows):
        document = np.zeros(sequence_length + 1, dtype=np.dtype(dtype).newbyteorder("<"))
        drawn = generator.random(sequence_length - 1) * cumulative[-1]
        document[1:-1] = 1 + np.searchsorted(cumulative, drawn, side="right")
        about = {"id": f"made:{number}", "source": "made", "characters": 0}
        yield Sample(f"{number:014d}", json.dumps(about).encode(), document.tobytes())


def _tokenizer(vocab: int) -> Tokenizer:
    """A name for every id; it reads no text."""
    names = {END_OF_TEXT: 0} | {f"t{number}": number for number in range(1, vocab)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token=END_OF_TEXT))
    backend.add_special_tokens([END_OF_TEXT])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    files = {
        MAIN_FILE: backend.to_str().encode(),
        CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
    }
    return Tokenizer(files, "the tokenizer of made tokens")


def vocabulary(recipe: Recipe, sources: Sources) -> int:
    """Rows of the embedding: the recipe's, or as many as the corpus's tokenizer needs."""
    if recipe.model.vocab is not None:
        return recipe.model.vocab
    return rounded_vocabulary(sources.tokenizer.size)


def batches(
    recipe: Recipe, sources: Sources, workers: int | None = None
) -> Generator[BareRows, None, None]:
    """Global batches on the host, each (tokens, labels, position_ids) [sequences, length]."""
    loader = Loader(
        sources.stream_arguments(recipe),
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


def first_batches(recipe: Recipe, sources: Sources, count: int) -> list[BareRows]:
    """The first `count` global batches, read in this process."""
    stream = batches(recipe, sources, workers=0)
    try:
        return list(islice(stream, count))
    finally:
        stream.close()


def on_device(rows: BareRows, device: torch.device) -> BareRows:
    """The rows on the device, through pinned memory where there is such."""
    if device.type == "cuda":
        rows = tuple(part.pin_memory() for part in rows)  # type: ignore[assignment]
    tokens, labels, position_ids = (part.to(device, non_blocking=True) for part in rows)
    return tokens, labels, position_ids


def supervised(rows: BareRows) -> int:
    """Positions with a label; the rows are on the host."""
    return int((rows[1] != IGNORE).sum())
