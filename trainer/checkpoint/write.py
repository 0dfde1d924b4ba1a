"""Saving a checkpoint: every rank streams its pieces, all agree, one rename completes it."""

import errno
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from trainer.checkpoint.files import (
    Planned,
    compare_tensors,
    size_fault,
    write_again,
    write_bytes,
    write_tensors,
)
from trainer.checkpoint.folders import (
    being_written,
    finish,
    keep_as_evidence,
    partial_name,
    remove_all_but,
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
from trainer.errors import CheckpointError, LocalDiskError, TrainingError
from trainer.files import sync_folder
from trainer.parallel.agreement import Ranks

_T = TypeVar("_T")

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
    read_back: bool = False,
    staged: "StagedCheckpoint | None" = None,
) -> Path:
    """Save a checkpoint as FOLDER/step-NNNNNNNN, all or nothing; collective over `group`.

    `folder`: RUN/checkpoints, on a file system that all ranks share. `pieces`: the boxes that this
    rank alone writes, consumed one at a time (a generator may gather or copy lazily); over all
    ranks they cover each tensor exactly once. `model`, `counters` (JSON) and `attachments` (small
    files by relative name, such as recipe.yaml) are rank 0's; the others' are ignored.
    `read_back`: what was written is read from the disk again and compared, each piece's values
    being taken once more. `staged`: the same, of `stage_checkpoint`; nothing is hashed again.

    The folder has a temporary name until every rank's files and the manifest are on the disk. A
    existing checkpoint of the same step is replaced; a damaged one is renamed. On any rank's
    failure (a full disk, a lost file) the temporary folder is removed, and every rank raises
    TrainingError naming the rank and the reason; CheckpointError where the pieces don't fit
    together. Earlier checkpoints stay as they were.
    """
    final = Path(folder) / folder_name(step)
    ranks = Ranks(group)
    partial = final.with_name(ranks.share(partial_name(step)))
    first, attempt = ranks.rank == 0, SaveTogether(ranks, partial, final, staged is not None)
    beside = (step, model, counters, attachments)
    with ExitStack() as held:
        attempt(lambda: begin(partial, held) if first else None)
        hashed = staged is None
        own = attempt(lambda: _write_own(partial, ranks.rank, pieces, read_back, hashed))
        parts = ranks.gather(own) if staged is None else staged.parts
        attempt(
            lambda: (
                publish(partial, final, _describe_all(partial, parts, *beside)) if first else None
            )
        )
    return final


@dataclass(frozen=True)
class StagedCheckpoint:
    """A checkpoint that lies whole on the machines' own disks, in `folder` on each; `parts`: what
    the ranks wrote, on rank 0.
    """

    folder: Path
    parts: list[Any]

    def remove(self) -> None:
        """Remove what lies on this machine's."""
        shutil.rmtree(self.folder, ignore_errors=True)


def stage_checkpoint(
    local: Path,
    step: int,
    pieces: Iterable[Piece],
    *,
    model: Mapping[str, Any],
    counters: Mapping[str, Any],
    attachments: Mapping[str, bytes],
    group: dist.ProcessGroup | None = None,
) -> StagedCheckpoint:
    """Write a checkpoint to the machines' own disks (trainer.checkpoint.local); collective.

    `local`: this machine's folder, where it takes the place of what lay there before; the rest as
    for `save_checkpoint`. Raises LocalDiskError where a rank could not write, CheckpointError where
    the pieces don't fit together.
    """
    ranks = Ranks(group)
    folder = local / ranks.share(partial_name(step))
    attempt = SaveTogether(ranks, folder, local / folder_name(step), on_own_disk=True)
    own = attempt(lambda: _write_own(folder, ranks.rank, pieces, read_back=False, hashed=True))
    parts, beside = ranks.gather(own), (step, model, counters, attachments)
    attempt(lambda: _describe_all(folder, parts, *beside) if ranks.rank == 0 else None)
    remove_all_but(folder)
    return StagedCheckpoint(folder, parts)


def _describe_all(
    folder: Path,
    parts: list[Any],
    step: int,
    model: Mapping[str, Any],
    counters: Mapping[str, Any],
    attachments: Mapping[str, bytes],
) -> CheckpointManifest:
    """Write the attachments and, at once under its name, the manifest of what the ranks wrote."""
    files, tensors = _merge(parts)
    files |= _write_attachments(folder, attachments)
    recipe = "recipe.yaml" if "recipe.yaml" in attachments else None
    manifest = CheckpointManifest(step, tensors, files, dict(model), dict(counters), recipe)
    write_bytes(folder / f".{MANIFEST}", manifest_bytes(manifest))
    os.rename(folder / f".{MANIFEST}", folder / MANIFEST)
    sync_folder(folder)
    return manifest


def begin(partial: Path, held: ExitStack) -> None:
    """Make the temporary folder of a checkpoint, which is one's own as long as `held` is."""
    remove_leftovers(partial.parent)  # this save may need an interrupted one's disk space
    held.enter_context(being_written(partial))


class SaveTogether:
    """What the ranks do of a save, each part together: where it fails on one, all of them raise.

    The temporary folder `partial` is removed first. `staged`: whether the checkpoint lies on the
    machines' own disks, where it stays; `on_own_disk`: whether `partial` is each machine's own.
    """

    def __init__(
        self,
        ranks: Ranks,
        partial: Path,
        final: Path,
        staged: bool = False,
        on_own_disk: bool = False,
    ) -> None:
        self._ranks, self._partial, self._final = ranks, partial, final
        self._staged, self._on_own_disk = staged, on_own_disk

    def __call__(self, action: Callable[[], _T]) -> _T:
        """The action's result; raises TrainingError (LocalDiskError) or CheckpointError."""
        mine = None
        try:
            result = action()
        except Exception as error:  # any failure must reach the other ranks, or they would hang
            mine = error
        where = f" ({self._partial.parent} on {socket.gethostname()})" if self._on_own_disk else ""
        failure = self._ranks.first_failure(None if mine is None else _describe(mine, where))
        if failure is None:
            return result
        if self._ranks.rank == 0 or self._on_own_disk:
            shutil.rmtree(self._partial, ignore_errors=True)
        self._ranks.share(None)  # a barrier: no rank continues before the folder is gone
        rank, (kind, reason) = failure
        if self._on_own_disk and kind != "CheckpointError":
            line = f"rank {rank} could not write to its machine's own disk: {reason}"
            raise LocalDiskError(line) from mine
        line = f"rank {rank} could not save {self._final}: {reason}; earlier checkpoints are intact"
        if self._staged:
            line += (
                "; this one lies on the machines' own disks, from where the next start with "
                "resume=auto takes it"
            )
        raise (CheckpointError if kind == "CheckpointError" else TrainingError)(line) from mine


def _describe(error: Exception, where: str) -> tuple[str, str]:
    """The error's type name and a one-line reason, with a remedy where the disk is full."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = " (free some space, or lower checkpoint.keep)" if full and not where else ""
        return kind, f"{error.strerror}{where}{mend}"
    text = " ".join(str(error).split())
    return kind, text if isinstance(error, CheckpointError) else f"{kind}: {text}{where}"


def _write_own(
    folder: Path, rank: int, pieces: Iterable[Piece], read_back: bool, hashed: bool
) -> dict[str, Any]:
    """Write this rank's pieces; returns their files and boxes as JSON values, for the manifest.

    `hashed`: without it, the files are those that an earlier call has described.
    """
    written: dict[str, Any] = {"files": {}, "pieces": []}
    remaining = iter(pieces)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, batch in enumerate(_batches(remaining)):
            file = f"rank-{rank:05d}" + (f"-{number:05d}" if number else "") + ".safetensors"
            planned = _planned(batch)
            if hashed:
                written["files"][file] = vars(write_tensors(folder / file, planned))
            else:
                write_again(folder / file, planned)
            if read_back:
                compare_tensors(folder / file, planned)
            written["pieces"] += [_box(file, piece) for piece in batch]
            batch.clear()  # frees its memory before the next batch fills
            planned.clear()
    except Exception:
        with suppress(Exception):  # producing a piece may be collective, and other ranks wait in it
            for _ in remaining:
                pass
        raise
    sync_folder(folder)
    return written


def _planned(batch: list[Piece]) -> list[Planned]:
    name, times = Counter(map(_name, batch)).most_common(1)[0]
    if times > 1:
        raise CheckpointError(f"tensor {name}: its pieces overlap")
    return [
        Planned(_name(piece), piece.tensor.dtype, tuple(piece.tensor.shape), piece.values)
        for piece in batch
    ]


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


def publish(partial: Path, final: Path, manifest: CheckpointManifest) -> None:
    """Check that every file has its size, and give the temporary folder its name; on one rank."""
    for name, stored in manifest.files.items():
        fault = size_fault(partial, name, stored)
        if fault:
            raise OSError(errno.EIO, f"{fault}; do all ranks share this file system?")
    finish(partial)
    sync_folder(partial)
    keep_as_evidence(final)
    replaced = set_aside(final)
    mark_chosen(final)  # what is noted is of the one that is replaced
    os.rename(partial, final)
    sync_folder(final.parent)
    if replaced:
        shutil.rmtree(replaced, ignore_errors=True)
