"""`lyceum import`: convert a Hugging Face model folder, or a GGUF file, a tensor at a time."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path

import torch

from trainer.checkpoint import CheckpointReader, Piece, folder_name, save_checkpoint
from trainer.data.tokenizer import (
    GENERATION_FILE,
    Tokenizer,
    listed_tokens,
    load_tokenizer,
)
from trainer.errors import CheckpointError, LyceumError, RecipeError
from trainer.files import sync_folder
from trainer.gguf.model import GgufModel, gguf_file
from trainer.gguf.tensors import GgufTensors
from trainer.hub.models import model_folder
from trainer.hugging_face.config import FILE, ModelDescription, conversion_recipe, read_config
from trainer.hugging_face.generation import unapplied
from trainer.hugging_face.names import Joined, tensor_map
from trainer.hugging_face.parity import measure, report, require
from trainer.hugging_face.reading import ModelFolder
from trainer.hugging_face.weights import CheckpointWeights
from trainer.recipe import Recipe

FROM_IMPORT = "hugging_face/"
"""Prefix of a checkpoint's attachments from its original folder, which an export restores."""

_log = logging.getLogger(__name__)

_NOTICES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "USE_POLICY.md")
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

WeightSource = ModelFolder | GgufTensors
"""The tensors of a model that is imported, by Hugging Face's names."""


class FolderModel:
    """A Hugging Face model folder, opened: what an import needs of it, as GgufModel has it.

    `config`: the bytes of its config.json. Raises what `read_config` raises.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.described, self.config = read_config(folder)

    def tensors(self) -> ModelFolder:
        """Its weights."""
        return ModelFolder(self.path)

    @property
    def notices(self) -> dict[str, bytes]:
        """The small files that say whose model it is, by name."""
        files = (self.path / name for name in _NOTICES)
        return {file.name: file.read_bytes() for file in files if file.is_file()}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return load_tokenizer(self.path)


def import_command(folder: Path, checkpoint: Path, *, show: bool = True) -> None:
    """Write the model of `folder` as the run directory `checkpoint`; check and print the parity.

    `folder`: where there is none of that name, the hub's model `org/name`; or a GGUF file; `show`:
    whether to print. Raises CheckpointError for an incomplete folder, an unsupported model, a
    `checkpoint` that is not empty, or failed parity; DataError for a bad tokenizer, and for a model
    that the hub does not give; RecipeError for a `checkpoint` that cannot be made.
    """
    opened = open_source(folder)
    described = opened.described
    partial_folder = begin(checkpoint)
    source = opened.tensors()
    tensors = tensor_map(described.model)
    expected = {part.name: part.shape for joined in tensors for part in joined.parts}
    if described.model.tied_embeddings:
        source.drop_copy(_HEAD, _EMBEDDING)  # some folders hold the tied matrix twice
    source.check(expected)
    pieces = list(_pieces(tensors, source))
    tokenizer = _tokenizer(opened.tokenizer, opened.path, described)
    attachments = {f"{FROM_IMPORT}{FILE}": opened.config}
    for name, content in opened.notices.items():
        attachments[f"{FROM_IMPORT}{name}"] = content
    for name, content in tokenizer.files.items():
        attachments[f"tokenizer/{name}"] = content
    _say_what_differs(opened.path, described, tokenizer, {source.dtype(name) for name in expected})
    whole = all(source.dtype(name) == torch.float32 for name in expected)
    recipe = conversion_recipe(
        described.model, described.sequence_length, "fp32" if whole else "bf16", str(checkpoint)
    )
    attachments["recipe.yaml"] = recipe.to_yaml().encode()
    save_imported(partial_folder, pieces, recipe, described.positions, attachments)
    reader = CheckpointReader(partial_folder / "checkpoints" / folder_name(0))
    parity = measure(described, described.model, CheckpointWeights(reader), source)
    if show:
        report(parity, f"{opened.path} -> {checkpoint}", described.family, source)
    require(parity, opened.path, partial_folder)
    finish(partial_folder, checkpoint)


def open_source(folder: Path) -> FolderModel | GgufModel:
    """The model that a folder, a GGUF file or a name on the hub means; raises as an import does."""
    file = gguf_file(folder)
    return GgufModel(file) if file is not None else FolderModel(model_folder(folder))


def _say_what_differs(
    path: Path, described: ModelDescription, tokenizer: Tokenizer, dtypes: set[torch.dtype]
) -> None:
    """Warn of what is computed or stored in another way than the model's owner did."""
    if torch.float16 in dtypes:
        _log.warning(
            "%s: its weights are fp16, and stay so in the checkpoint and in an export of it; it is"
            " read (generate, chat, evaluate) in fp32; runs that start from it train in fp32, or"
            " bf16 (precision), and save fp32 or bf16",
            path,
        )
    if GENERATION_FILE in tokenizer.files and (lost := unapplied(tokenizer.files[GENERATION_FILE])):
        _log.warning("%s: %s", path, lost)
    if dropout := described.keys.get("attention_dropout"):
        _log.warning("%s: attention_dropout %s is not applied in training here", path, dropout)


def save_imported(
    run: Path,
    pieces: list[Piece],
    recipe: Recipe,
    positions: int,
    attachments: dict[str, bytes],
) -> None:
    """Save a conversion as the first checkpoint of a run; `positions`: the longest text's."""
    try:
        save_checkpoint(
            run / "checkpoints",
            0,
            pieces,
            model=recipe.model.model_dump(mode="json"),
            counters={"step": 0, "longest_sequence": positions},
            attachments=attachments,
        )
    except LyceumError:
        with suppress(OSError):  # only where nothing is left in them
            (run / "checkpoints").rmdir()
            run.rmdir()
        raise


def begin(folder: Path) -> Path:
    """The temporary folder in which `folder` is written.

    Raises CheckpointError where one of them is in use, RecipeError where a parent is a file.
    """
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RecipeError(f"{folder}: cannot be made, as {above} is a file; name another folder")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists and is not empty; name a new folder")
    partial_folder = folder.with_name(f"{folder.name}.partial")
    if partial_folder.exists():
        raise CheckpointError(
            f"{partial_folder} is left from an earlier conversion; look at it, then remove it"
        )
    return partial_folder


def finish(partial_folder: Path, folder: Path) -> None:
    """Rename the complete folder to its final name."""
    os.rename(partial_folder, folder)
    sync_folder(folder.parent)


def _pieces(tensors: list[Joined], source: WeightSource) -> Iterator[Piece]:
    """The pieces of the checkpoint, whose values are read only when they are written."""
    for joined in tensors:
        dtypes = {part.name: source.dtype(part.name) for part in joined.parts}
        dtype = dtypes[joined.parts[0].name]
        if len(set(dtypes.values())) > 1:
            raise CheckpointError(
                f"{source.folder}: {', '.join(dtypes)} are one tensor here and of different types"
                " there; save the model in one type"
            )
        yield Piece(
            f"model/{joined.name}",
            joined.shape,
            (0,) * len(joined.shape),
            torch.empty(joined.shape, dtype=dtype, device="meta"),
            partial(joined.join, source.read),
        )


def _tokenizer(tokenizer: Tokenizer, folder: Path, described: ModelDescription) -> Tokenizer:
    """The model's tokenizer, with the same end ids as transformers uses."""
    rows = described.model.vocab
    if rows is not None and tokenizer.size > rows:
        named = listed_tokens(list(tokenizer.beyond(rows)))
        if not tokenizer.lacks_only_added(rows):
            raise CheckpointError(
                f"{folder}: its tokenizer has {tokenizer.size} tokens and its embedding {rows}"
                f" rows, none for {named}; they belong to different models"
            )
        _log.warning(
            "%s: its tokenizer has %d tokens and its embedding %d rows: none for %s, which a text"
            " must not hold, as in transformers",
            *(folder, tokenizer.size, rows, named),
        )
    ends = described.keys.get("eos_token_id")
    if GENERATION_FILE in tokenizer.files or ends is None:
        return tokenizer
    # Without a file of its own transformers takes the ids of config.json.
    generation = {"bos_token_id": described.keys.get("bos_token_id"), "eos_token_id": ends}
    content = (json.dumps(generation, indent=2) + "\n").encode()
    return Tokenizer(tokenizer.files | {GENERATION_FILE: content}, str(folder))
