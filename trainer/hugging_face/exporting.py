"""`lyceum export`: convert a checkpoint, saved at any layout, to a Hugging Face model folder."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import (
    read_merged,
    saved_recipe,
    saved_tokenizer,
    trained_length,
)
from trainer.checkpoint.files import Planned, write_bytes, write_tensors
from trainer.checkpoint.fitted import without_padding
from trainer.errors import RecipeError, TrainingError
from trainer.files import sync_folder
from trainer.hugging_face.config import FILE, describe
from trainer.hugging_face.importing import begin, finish
from trainer.hugging_face.names import EMBEDDING, HEAD, Joined, tensor_map
from trainer.hugging_face.parity import CheckpointTensors, measure, report, require, rows_of
from trainer.hugging_face.reading import INDEX, ONE_FILE, ModelFolder
from trainer.hugging_face.small_files import as_json, small_files
from trainer.hugging_face.weights import CheckpointWeights, check_weights

_log = logging.getLogger(__name__)

Stored = Literal["stored", "fp32", "bf16"]
DTYPES: dict[str, torch.dtype | None] = {
    "stored": None,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
}
"""The values of `--dtype`; None: each tensor keeps its saved dtype."""


def export_command(
    checkpoint: Path, folder: Path, *, shard_gb: float = 5.0, dtype: Stored = "stored"
) -> None:
    """Write a checkpoint (a folder, or a run's newest) as the model folder `folder`; check parity.

    A file has at most `shard_gb` gigabytes (1e9 bytes), unless one tensor is larger. Raises
    CheckpointError for a damaged checkpoint, a model of no Hugging Face family, a `folder` that is
    not empty, or failed parity; RecipeError for a bad `shard_gb`, or a `folder` that cannot be
    made; TrainingError for a failed write.
    """
    reader = CheckpointReader(resolve_checkpoint(checkpoint))
    export_weights(reader, weights_of(reader), folder, shard_gb=shard_gb, dtype=dtype)


def weights_of(reader: CheckpointReader) -> CheckpointTensors:
    """The weights to export (not the fp32 masters), under the checkpoint's names.

    Adapters are merged into their base; rows that take no part are left out.
    """
    return CheckpointWeights(without_padding(read_merged(reader)))


def export_weights(
    reader: CheckpointReader,
    weights: CheckpointTensors,
    folder: Path,
    *,
    shard_gb: float = 5.0,
    dtype: Stored = "stored",
) -> None:
    """As `export_command`, with `weights` in place of the checkpoint's own.

    They say how many rows the embedding has, and whether there is an output head beside it.
    """
    if shard_gb <= 0:
        raise RecipeError(f"--shard-gb: {shard_gb} is no size; name gigabytes above 0")
    partial_folder = begin(folder)
    recipe, tokenizer = saved_recipe(reader), saved_tokenizer(reader)
    rows = weights.shape(f"model/{EMBEDDING}")[0]
    tied = f"model/{HEAD}" not in weights.keys()  # noqa: SIM118 (no mapping)
    own = {"vocab": rows, "padding_rows": 0, "tied_embeddings": tied}
    model = recipe.model.model_copy(update=own)
    tensors = tensor_map(model)
    check_weights(weights, tensors, str(reader.folder))

    def dtype_of(name: str) -> torch.dtype:
        return DTYPES[dtype] or weights.dtype(f"model/{name}")

    resolved = recipe.model_copy(update={"model": model})
    files = small_files(reader, resolved, dtype_of(EMBEDDING), tokenizer)
    described = describe(files[FILE], str(partial_folder / FILE))
    try:
        partial_folder.mkdir(parents=True)
    except OSError as error:
        raise RecipeError(
            f"{folder}: cannot be made: {error.strerror}; name another folder"
        ) from None
    try:
        _write_shards(partial_folder, _planned(tensors, weights, dtype_of), shard_gb * 1e9)
        for name, content in files.items():
            (partial_folder / name).parent.mkdir(exist_ok=True)
            write_bytes(partial_folder / name, content)
        sync_folder(partial_folder)
    except OSError as error:
        raise TrainingError(
            f"cannot write {partial_folder}: {error.strerror}; what is there is incomplete: remove"
            " it"
        ) from None
    written = ModelFolder(partial_folder)
    trained = trained_length(reader)
    if trained > described.sequence_length:
        _log.warning(
            "%s: max_position_embeddings is %d, the length that transformers lets dynamic"
            " rope start from: that the model was trained on %d tokens is not said there",
            *(folder / FILE, described.positions, trained),
        )
    parity = measure(described, model, weights, written, cast=dtype_of, trained=trained)
    report(parity, f"{reader.folder} -> {folder}", described.family, written)
    require(parity, reader.folder, partial_folder)
    finish(partial_folder, folder)


def _planned(
    tensors: list[Joined], weights: CheckpointTensors, dtype_of: Callable[[str], torch.dtype]
) -> list[Planned]:
    planned = []
    for joined in tensors:
        dtype = dtype_of(joined.name)

        def read_rows(first: int, last: int, key: str = f"model/{joined.name}") -> Tensor:
            return rows_of(weights, key, first, last)

        for part in joined.parts:
            produce = partial(part.take, read_rows, dtype)
            planned.append(Planned(part.name, dtype, part.shape, produce))
    return planned


def _write_shards(folder: Path, tensors: list[Planned], shard_bytes: float) -> None:
    """Write the tensors to files in order, with an index where there is more than one."""
    shards: list[list[Planned]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.nbytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.nbytes
    names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = [ONE_FILE]
    for name, shard in zip(names, shards, strict=True):
        write_tensors(folder / name, shard, {"format": "pt"})
    if len(shards) > 1:
        file_of = {t.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
        total = sum(tensor.nbytes for tensor in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(file_of.items()))}
        write_bytes(folder / INDEX, as_json(index))
