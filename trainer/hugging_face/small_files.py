"""The files of an exported model folder beside its weights."""

import json
from typing import Any

import torch

from trainer.checkpoint import CheckpointReader
from trainer.checkpoint.adapted import saved_files, trained_length
from trainer.data.tokenizer import CONFIG_FILE as TOKENIZER_FILE
from trainer.data.tokenizer import GENERATION_FILE, Tokenizer
from trainer.hugging_face.config import FILE, ModelDescription, describe
from trainer.hugging_face.config_writing import config_of, revised_config
from trainer.hugging_face.importing import FROM_IMPORT
from trainer.parsing import read_json
from trainer.recipe import Recipe
from trainer.recipe.rope import readable_length


def small_files(
    reader: CheckpointReader, recipe: Recipe, dtype: torch.dtype, tokenizer: Tokenizer
) -> dict[str, bytes]:
    """The content of all files but the weights, by name: configuration, tokenizer, generation, and
    those that came with an import.
    """
    imported = saved_files(reader, FROM_IMPORT)
    files = {**imported, **tokenizer.files}
    positions = trained_length(reader)
    assert recipe.model.vocab is not None
    if FILE in imported:
        described = describe(imported[FILE], str(reader.folder / FROM_IMPORT / FILE))
        keys = revised_config(described, recipe.model, positions, dtype, tokenizer)
        files |= _longer_texts(
            files, described, readable_length(recipe.model.rope_scaling, positions)
        )
        return files | {FILE: as_json(keys) if keys != described.keys else imported[FILE]}
    keys = config_of(recipe.model, positions, dtype, tokenizer)
    generation = _generation(tokenizer, recipe.model.vocab)
    return files | {FILE: as_json(keys), GENERATION_FILE: generation}


def _longer_texts(
    files: dict[str, bytes], before: ModelDescription, longest: int
) -> dict[str, bytes]:
    """The files that cut texts at the length of the imported model, where a run has read more.

    `longest`: tokens of the longest text that the model reads now. transformers truncates at the
    tokenizer's model_max_length, and ends a text at the generation config's max_length.
    """
    changed = {}
    for name, key in ((TOKENIZER_FILE, "model_max_length"), (GENERATION_FILE, "max_length")):
        keys = read_json(files.get(name, b"{}"))
        cut = keys.get(key)
        # A shorter one is its owner's choice, which has nothing to do with the model.
        if (
            cut is not None
            and before.sequence_length < longest
            and before.positions <= cut < longest
        ):
            changed[name] = as_json(keys | {key: longest})
    return changed


def _generation(tokenizer: Tokenizer, rows: int) -> bytes:
    """generation_config.json: start and end ids, and the embedding's padding rows to suppress.

    `rows`: of the embedding; values in the tokenizer's own file take precedence.
    """
    given = read_json(tokenizer.files.get(GENERATION_FILE, b"{}"))
    keys: dict[str, Any] = {
        "bos_token_id": tokenizer.start[0] if tokenizer.start else None,
        "eos_token_id": sorted(tokenizer.ends),
        "pad_token_id": tokenizer.end_of_text,
    }
    if rows > tokenizer.size:
        keys["suppress_tokens"] = list(range(tokenizer.size, rows))
    return as_json(keys | {key: value for key, value in given.items() if value is not None})


def as_json(value: Any) -> bytes:
    """A value as the content of a file."""
    return (json.dumps(value, indent=2) + "\n").encode()
