"""Loading a checkpoint at any layout: each rank reads the boxes it needs, from any rank's files."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open

from trainer.checkpoint.files import complete_manifest, hash_fault
from trainer.checkpoint.format import DTYPES, Bounds, StoredPiece, inside, intersect, slices
from trainer.errors import CheckpointError
from trainer.parallel.agreement import Ranks

_OPEN_FILES = 64
_MAPPED_BYTES = 64 << 20
"""Bytes of a file that are read before it is closed and opened anew."""
_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}


class CheckpointReader:
    """A complete checkpoint folder, opened for reading.

    No tensor is returned before its file's sha256 is checked: for all files by `verify`, otherwise
    for each file when it is first read.

    Raises CheckpointError where the folder is missing, half-written, damaged or of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._manifest = complete_manifest(self.folder)
        self._verified: set[str] = set()
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._mapped: Counter[str] = Counter()

    @property
    def step(self) -> int:
        """The training step after which it was saved."""
        return self._manifest.step

    @property
    def model(self) -> dict[str, Any]:
        """The recipe's model section at the time of saving."""
        return self._manifest.model

    @property
    def counters(self) -> dict[str, Any]:
        """The saved counters of the training loop and state of the data stream."""
        return self._manifest.counters

    def keys(self) -> list[str]:
        """The names of the global tensors, sorted."""
        return sorted(self._manifest.tensors)

    def __contains__(self, key: str) -> bool:
        return key in self._manifest.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        """The global shape of a tensor; CheckpointError where there is none of this name."""
        return self._tensor(key).shape

    def dtype(self, key: str) -> torch.dtype:
        """The dtype in which a tensor was saved."""
        return _DTYPES[self._tensor(key).dtype]

    def attachments(self) -> list[str]:
        """The sorted names of the files saved beside the tensors, such as recipe.yaml."""
        tensor_files = {p.file for t in self._manifest.tensors.values() for p in t.pieces}
        return sorted(set(self._manifest.files) - tensor_files)

    def attachment(self, name: str) -> bytes:
        """An attachment's content, its sha256 checked; CheckpointError where there is none."""
        if name not in self._manifest.files:
            raise CheckpointError(f"checkpoint {self.folder} holds no {name}")
        self._verify_file(name)
        return (self.folder / name).read_bytes()

    def require_model(self, model: dict[str, Any]) -> None:
        """Raise CheckpointError naming what differs, where another model was saved."""
        ours, theirs = dict(model), self.model
        differing = [
            f"{key} is {theirs.get(key)!r} there and {ours.get(key)!r} here"
            for key in sorted(ours.keys() | theirs.keys())
            if theirs.get(key) != ours.get(key)
        ]
        if differing:
            raise CheckpointError(
                f"checkpoint {self.folder} is of another model: {', '.join(differing)}; "
                "change the recipe's model section or choose another checkpoint"
            )

    def verify(self, group: dist.ProcessGroup | None = None) -> None:
        """Check the sha256 of every file, the work split over the ranks; collective over `group`.

        Raises CheckpointError naming the first bad file, on all ranks alike.
        """
        ranks = Ranks(group)
        files = self._manifest.files
        faults = (
            hash_fault(self.folder, name, files[name])
            for name in _share(files, {n: f.bytes for n, f in files.items()}, ranks)
        )
        failure = ranks.first_failure(next((fault for fault in faults if fault), None))
        if failure:
            raise CheckpointError(f"{failure[1]}; choose another checkpoint")
        self._verified.update(files)

    def believe(self) -> None:
        """Take every file as verified: all ranks together have, a moment ago."""
        self._verified.update(self._manifest.files)

    def read(
        self,
        key: str,
        offset: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        own: bool = True,
    ) -> torch.Tensor:
        """A box of a global tensor, on the CPU, assembled from the saved pieces that it meets.

        `offset` and `shape` are in elements of the global tensor (None: all of it); the values are
        cast to `dtype` (None: as saved). Only the overlapping parts are read. `own`: without it the
        tensor may be the file's own pages, to be copied from soon and not to be written to. Raises
        CheckpointError: no such tensor, a box that is not inside it, a damaged file.
        """
        stored = self._tensor(key)
        start = tuple(offset) if offset is not None else (0,) * len(stored.shape)
        size = tuple(shape) if shape is not None else stored.shape
        if not inside(start, size, stored.shape):
            raise CheckpointError(
                f"checkpoint {self.folder}: {key} has shape {list(stored.shape)}, which does not "
                f"cover {list(size)} at {list(start)}; is this a checkpoint of another model?"
            )
        kind = dtype or _DTYPES[stored.dtype]
        met = [
            (piece, intersect((start, size), (piece.offset, piece.shape)))
            for piece in stored.pieces
        ]
        parts = [(piece, part) for piece, part in met if part is not None]
        if not own and [part for _, part in parts] == [(start, size)] and kind == self.dtype(key):
            return self._read_part(*parts[0], stored.dtype)
        wanted = torch.empty(size, dtype=kind)
        for piece, part in parts:
            wanted[slices(part, start)].copy_(self._read_part(piece, part, stored.dtype))
        return wanted

    def close(self) -> None:
        """Close the files that reading left open."""
        self._open.clear()

    def _tensor(self, key: str) -> Any:
        try:
            return self._manifest.tensors[key]
        except KeyError:
            raise CheckpointError(
                f"checkpoint {self.folder} holds no tensor {key}; is it of another model?"
            ) from None

    def _read_part(self, piece: StoredPiece, part: Bounds, dtype: str) -> torch.Tensor:
        try:
            file = self._opened(piece.file)
            if piece.shape:
                tensor = file.get_slice(piece.name)
                found = tuple(tensor.get_shape())
                values = tensor[slices(part, piece.offset)]
            else:  # safetensors cuts no slices from a zero-dimensional tensor
                values = file.get_tensor(piece.name)
                found = tuple(values.shape)
        except (SafetensorError, OSError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{self.folder / piece.file} is damaged: {reason}") from None
        if found != piece.shape or values.dtype != _DTYPES[dtype]:
            raise CheckpointError(
                f"{self.folder / piece.file}: {piece.name} is not what the manifest says"
            )
        self._count(piece.file, values.nbytes)
        return values

    def _opened(self, name: str) -> Any:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        self._verify_file(name)
        self._open[name] = safe_open(self.folder / name, framework="pt")
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)
        return self._open[name]

    def _count(self, name: str, read_bytes: int) -> None:
        """Close a file of which much was read: its pages stay resident while it is mapped."""
        self._mapped[name] += read_bytes
        if self._mapped[name] > _MAPPED_BYTES:
            del self._mapped[name]
            self._open.pop(name, None)

    def _verify_file(self, name: str) -> None:
        if name not in self._verified:
            fault = hash_fault(self.folder, name, self._manifest.files[name])
            if fault:
                raise CheckpointError(f"{fault}; choose another checkpoint")
            self._verified.add(name)


def open_checkpoint(
    folder: Path, group: dist.ProcessGroup | None = None, verified: bool = False
) -> CheckpointReader:
    """Open a checkpoint and verify all of it; collective, with one outcome on all ranks.

    `verified`: all ranks together have, a moment ago. Raises CheckpointError on every rank where
    any rank can't open it or finds a bad file.
    """
    reader, reason = None, None
    try:
        reader = CheckpointReader(folder)
    except CheckpointError as error:
        reason = str(error)
    failure = Ranks(group).first_failure(reason)
    if failure:
        raise CheckpointError(failure[1])
    assert reader is not None
    if verified:
        reader.believe()
    else:
        reader.verify(group)
    return reader


def _share(names: Iterable[str], sizes: dict[str, int], ranks: Ranks) -> list[str]:
    """This rank's files to verify: the largest first, each to the rank with the fewest bytes."""
    loads = [0] * ranks.world
    mine = []
    for name in sorted(names, key=lambda name: (-sizes[name], name)):
        rank = loads.index(min(loads))
        loads[rank] += sizes[name]
        if rank == ranks.rank:
            mine.append(name)
    return mine
