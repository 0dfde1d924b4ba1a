"""Saving a checkpoint: every rank streams its pieces, all agree, one rename completes it."""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from math import prod
from pathlib import Path
from typing import Any

import torch.distributed as dist

from trainer.checkpoint.files import Planned, size_fault, write_bytes, write_tensors
from trainer.checkpoint.folders import (
    being_written,
    finish,
    keep_as_evidence,
    partial_name,
    remove_leftovers,
    set_aside,
)
from trainer.checkpoint.format import (
    DTYPES,
    MANIFEST,
    CheckpointManifest,
    Piece,
    StoredFile,
    StoredPiece,
    StoredTensor,
    check_tensors,
    dtype_name,
    folder_name,
    manifest_bytes,
    safe_name,
)
from trainer.checkpoint.marks import mark_chosen
from trainer.errors import CheckpointError, TrainingError
from trainer.files import sync_folder
from trainer.parallel.agreement import Ranks

FILE_BYTES = 1 << 30
"""A rank writes a file once its pieces reach this size, or one piece where a single one is larger:
of pieces that are made as they are taken, the most that a save holds in memory."""


def save_checkpoint(
    folder: Path,
    step: int,
    pieces: Iterable[Piece],
    *,
    model: Mapping[str, Any],
    counters: Mapping[str, Any],
    attachments: Mapping[str, bytes],
    group: dist.ProcessGroup | None = None,
) -> Path:
    """Save a checkpoint as FOLDER/step-NNNNNNNN, all or nothing; collective over `group`.

    `folder`: RUN/checkpoints, on a file system that all ranks share. `pieces`: the boxes that this
    rank alone writes, consumed one at a time (a generator may gather or copy lazily); over all
    ranks they cover each tensor exactly once. `model`, `counters` (JSON) and `attachments` (small
    files by relative name, such as recipe.yaml) are rank 0's; the others' are ignored.

    The folder has a temporary name until every rank's files and the manifest are on the disk. A
    existing checkpoint of the same step is replaced; a damaged one is renamed. On any rank's
    failure (a full disk, a lost file) the temporary folder is removed, and every rank raises
    TrainingError naming the rank and the reason; CheckpointError where the pieces don't fit
    together. Earlier checkpoints stay as they were.
    """
    final = Path(folder) / folder_name(step)
    ranks = Ranks(group)
    partial = final.with_name(ranks.share(partial_name(step)))
    first = ranks.rank == 0

    def attempt(action: Callable[[], Any]) -> Any:
        return _together(ranks, action, partial, final)

    def complete(parts: list[Any]) -> None:
        files, tensors = _merge(parts)
        files |= _write_attachments(partial, attachments)
        recipe = "recipe.yaml" if "recipe.yaml" in attachments else None
        manifest = CheckpointManifest(step, tensors, files, dict(model), dict(counters), recipe)
        _publish(partial, final, manifest)

    with ExitStack() as held:
        attempt(lambda: _begin(partial, held) if first else None)
        parts = ranks.gather(attempt(lambda: _write_own(partial, ranks.rank, pieces)))
        attempt(lambda: complete(parts) if first else None)
    return final


def _begin(partial: Path, held: ExitStack) -> None:
    remove_leftovers(partial.parent)  # this save may need an interrupted one's disk space
    held.enter_context(being_written(partial))


def _together(ranks: Ranks, action: Callable[[], Any], partial: Path, final: Path) -> Any:
    """The action's result, if it succeeded on every rank; otherwise every rank raises.

    The partial folder is removed first.
    """
    result, mine = None, None
    try:
        result = action()
    except Exception as error:  # any failure must reach the other ranks, or they would hang
        mine = error
    failure = ranks.first_failure(None if mine is None else _describe(mine))
    if failure is None:
        return result
    if ranks.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
    ranks.share(None)  # a barrier: no rank continues before the partial folder is gone
    rank, (kind, reason) = failure
    line = f"rank {rank} could not save {final}: {reason}; earlier checkpoints are intact"
    raise (CheckpointError if kind == "CheckpointError" else TrainingError)(line) from mine


def _describe(error: Exception) -> tuple[str, str]:
    """The error's type name and a one-line reason, with a remedy where the disk is full."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = " (free some space, or lower checkpoint.keep)" if full else ""
        return kind, f"{error.strerror}{mend}"
    text = " ".join(str(error).split())
    return kind, text if isinstance(error, CheckpointError) else f"{kind}: {text}"


def _write_own(partial: Path, rank: int, pieces: Iterable[Piece]) -> dict[str, Any]:
    """Write this rank's pieces; returns their files and boxes as JSON values, for the manifest."""
    written: dict[str, Any] = {"files": {}, "pieces": []}
    remaining = iter(pieces)
    try:
        for number, batch in enumerate(_batches(remaining)):
            file = f"rank-{rank:05d}" + (f"-{number:05d}" if number else "") + ".safetensors"
            written["files"][file] = vars(_write_batch(partial / file, batch))
            written["pieces"] += [_box(file, piece) for piece in batch]
            batch.clear()  # frees its memory before the next batch fills
    except Exception:
        with suppress(Exception):  # producing a piece may be collective, and other ranks wait in it
            for _ in remaining:
                pass
        raise
    sync_folder(partial)
    return written


def _write_batch(path: Path, batch: list[Piece]) -> StoredFile:
    name, times = Counter(map(_name, batch)).most_common(1)[0]
    if times > 1:
        raise CheckpointError(f"tensor {name}: its pieces overlap")
    planned = [
        Planned(_name(piece), piece.tensor.dtype, tuple(piece.tensor.shape), piece.values)
        for piece in batch
    ]
    return write_tensors(path, planned)


def _box(file: str, piece: Piece) -> list[Any]:
    box = {"file": file, "name": _name(piece), "offset": list(piece.offset)}
    dtype = dtype_name(piece.tensor.dtype)
    return [piece.key, dtype, list(piece.global_shape), box | {"shape": list(piece.tensor.shape)}]


def _batches(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """The pieces in groups of at most FILE_BYTES, empty boxes left out."""
    batch: list[Piece] = []
    for piece in pieces:
        if dtype_name(piece.tensor.dtype) not in DTYPES:
            raise CheckpointError(f"tensor {piece.key}: {piece.tensor.dtype} cannot be saved")
        if piece.tensor.numel() == 0 and prod(piece.global_shape) > 0:
            continue
        if batch and sum(p.tensor.nbytes for p in batch) + piece.tensor.nbytes > FILE_BYTES:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _name(piece: Piece) -> str:
    """A piece's name in its file: the key, and the offset where it isn't the whole tensor."""
    if tuple(piece.tensor.shape) == tuple(piece.global_shape):
        return piece.key
    return f"{piece.key}@{','.join(map(str, piece.offset))}"


def _merge(parts: list[Any]) -> tuple[dict[str, StoredFile], dict[str, StoredTensor]]:
    """All ranks' files and pieces as one manifest's; CheckpointError where they don't agree."""
    files: dict[str, StoredFile] = {}
    described: dict[str, tuple[str, tuple[int, ...]]] = {}
    boxes: dict[str, list[StoredPiece]] = {}
    for part in parts:
        files |= {name: StoredFile(**file) for name, file in part["files"].items()}
        for key, dtype, global_shape, box in part["pieces"]:
            this = (dtype, tuple(global_shape))
            if described.setdefault(key, this) != this:
                raise CheckpointError(
                    f"tensor {key}: {described[key]} on one rank, {this} on another"
                )
            offset, shape = tuple(box["offset"]), tuple(box["shape"])
            boxes.setdefault(key, []).append(StoredPiece(box["file"], box["name"], offset, shape))
    tensors = {key: StoredTensor(*described[key], tuple(boxes[key])) for key in described}
    check_tensors(tensors)
    return files, tensors


def _write_attachments(partial: Path, attachments: Mapping[str, bytes]) -> dict[str, StoredFile]:
    files = {}
    for name, content in attachments.items():
        path = partial / safe_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        files[name] = write_bytes(path, content)
        sync_folder(path.parent)
    return files


def _publish(partial: Path, final: Path, manifest: CheckpointManifest) -> None:
    """Check that every file has its size, write the manifest, and rename the folder."""
    for name, stored in manifest.files.items():
        fault = size_fault(partial, name, stored)
        if fault:
            raise OSError(errno.EIO, f"{fault}; do all ranks share this file system?")
    write_bytes(partial / MANIFEST, manifest_bytes(manifest))
    finish(partial)
    sync_folder(partial)
    keep_as_evidence(final)
    replaced = set_aside(final)
    mark_chosen(final)  # what is noted is of the one that is replaced
    os.rename(partial, final)
    sync_folder(final.parent)
    if replaced:
        shutil.rmtree(replaced, ignore_errors=True)
