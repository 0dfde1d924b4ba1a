"""The checkpoint on disk: a folder of safetensors files and one checkpoint.json, written last.

    step-00000100/
      checkpoint.json          the manifest: the file of each piece of each global tensor, counters
      rank-00000.safetensors   the pieces that rank 0 wrote (rank-00000-00001: its second file)
      recipe.yaml  tokenizer/  attachments

Nothing here can run code: tensors are safetensors, all else is JSON or plain bytes. The manifest
carries the sha256 of every other file, and of itself (of its JSON without that one key), so that a
changed bit anywhere is found before a tensor is used.

Why a format of our own (trainer/README.md, D7): megatron-core's dist_checkpointing and the default
writer of torch's DCP keep their metadata as a pickle. DCP's HuggingFaceStorageWriter (torch 2.13)
has none, but also no hashes, no rename of a complete folder, nothing beside tensors, and it holds a
file's tensors and all of its bytes in memory at once.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.errors import CheckpointError
from trainer.hub.foreign import checkpoint_of
from trainer.parsing import read_json
from trainer.recipe.checkpoint import AVERAGE as AVERAGE

if TYPE_CHECKING:
    import torch

Bounds = tuple[tuple[int, ...], tuple[int, ...]]
"""(offset, shape), in elements of the global tensor; ((), ()) for a zero-dimensional tensor."""


def inside(offset: Sequence[int], shape: Sequence[int], outer: Sequence[int]) -> bool:
    """Whether the box lies inside a global tensor of shape `outer`."""
    return len(offset) == len(shape) == len(outer) and all(
        start >= 0 and size >= 0 and start + size <= limit
        for start, size, limit in zip(offset, shape, outer, strict=True)
    )


def intersect(first: Bounds, second: Bounds) -> Bounds | None:
    """The intersection of two boxes, None where it is empty."""
    offset = tuple(map(max, first[0], second[0]))
    ends = (
        min(start + size, other_start + other_size)
        for start, size, other_start, other_size in zip(*first, *second, strict=True)
    )
    shape = tuple(end - start for start, end in zip(offset, ends, strict=True))
    return None if any(size <= 0 for size in shape) else (offset, shape)


def slices(box: Bounds, origin: Sequence[int]) -> tuple[slice, ...]:
    """The index of `box` in a local tensor whose first element is at `origin` globally."""
    return tuple(
        slice(start - zero, start - zero + size)
        for start, size, zero in zip(*box, origin, strict=True)
    )


def tiling_fault(boxes: Sequence[Bounds], shape: Sequence[int]) -> str | None:
    """Why the boxes do not cover a tensor of `shape` exactly once; None where they do.

    Boxes inside the tensor that do not overlap and whose volumes add up to the tensor's cover it.
    Sorted by the first axis, each is compared only with those that begin before it ends: the
    partitions in use cut mostly along that axis, so the cost is about n log n.
    """
    for offset, size in boxes:
        if not inside(offset, size, shape):
            return f"a piece at {list(offset)} of shape {list(size)} is outside {list(shape)}"
    if sum(prod(size) for _, size in boxes) > prod(shape):
        return "its pieces overlap"
    if sum(prod(size) for _, size in boxes) < prod(shape):
        return "its pieces leave a hole"
    if shape and len(boxes) > 1 and _overlap(boxes):
        return "its pieces overlap"
    return None


def _overlap(boxes: Sequence[Bounds]) -> bool:
    starts = np.array([offset for offset, _ in boxes], dtype=np.int64)  # [boxes, dimensions]
    ends = starts + np.array([size for _, size in boxes], dtype=np.int64)
    order = np.argsort(starts[:, 0], kind="stable")
    starts, ends = starts[order], ends[order]
    last = np.searchsorted(starts[:, 0], ends[:, 0])  # the first box that begins after this one
    for i in np.flatnonzero(last > np.arange(len(boxes)) + 1):
        after = slice(i + 1, last[i])
        if ((starts[after] < ends[i]) & (ends[after] > starts[i])).all(axis=1).any():
            return True
    return False


FORMAT = "lyceum-checkpoint/1"
MANIFEST = "checkpoint.json"
FOLDER_NAME = re.compile(r"step-(\d{8,})")
BEST = "best"
"""The name, beside the checkpoints of a run, of a link to the best of them."""

DTYPES: Mapping[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""What safetensors calls each dtype that a checkpoint can hold, by its name in the manifest, which
is torch's own."""


def dtype_name(dtype: "torch.dtype") -> str:
    """A dtype's name in torch, the manifest and config.json; only those in DTYPES can be saved."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Piece:
    """A box of a global tensor, as one rank saves it.

    `tensor`: the box's values, on any device, of any dtype in DTYPES; its first element is element
    `offset` of the global tensor `key`, whose shape is `global_shape`. Zero-dimensional tensors
    have empty tuples. The tensor may be a view of a live one: it is copied when it is written. A
    tensor on the meta device states only dtype and shape: `produce` then returns the values when
    they are written.
    """

    key: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    tensor: "torch.Tensor"
    produce: "Callable[[], torch.Tensor] | None" = None

    def values(self) -> "torch.Tensor":
        """The box's values."""
        return self.tensor if self.produce is None else self.produce()


@dataclass(frozen=True)
class StoredPiece:
    """A saved box: tensor `name` of the safetensors file `file`, `offset` in the global tensor."""

    file: str
    name: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StoredTensor:
    """A global tensor: its dtype's name, its shape, and the boxes that make it up."""

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[StoredPiece, ...]


@dataclass(frozen=True)
class StoredFile:
    """A file's size and the sha256 of its bytes, in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class CheckpointManifest:
    """The content of checkpoint.json.

    `tensors`: by key; `files`: all files but the manifest, by name relative to the folder; `model`:
    the recipe's model section; `counters`: the training loop's, with the state of the data stream;
    `recipe`: the name of the recipe's file, None without one.
    """

    step: int
    tensors: Mapping[str, StoredTensor]
    files: Mapping[str, StoredFile]
    model: dict[str, Any]
    counters: dict[str, Any]
    recipe: str | None


def folder_name(step: int) -> str:
    """The name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def check_tensors(tensors: Mapping[str, StoredTensor]) -> None:
    """Raise CheckpointError where a tensor's pieces overlap, leave a hole, or lie outside it."""
    for key, tensor in tensors.items():
        fault = tiling_fault([(p.offset, p.shape) for p in tensor.pieces], tensor.shape)
        if fault:
            raise CheckpointError(f"tensor {key} of shape {list(tensor.shape)}: {fault}")


def manifest_bytes(manifest: CheckpointManifest) -> bytes:
    """The manifest as the content of checkpoint.json, sealed with its own sha256."""
    body = {
        "format": FORMAT,
        "step": manifest.step,
        "tensors": {
            key: {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "pieces": [vars(piece) for piece in tensor.pieces],
            }
            for key, tensor in sorted(manifest.tensors.items())
        },
        "files": {name: vars(file) for name, file in sorted(manifest.files.items())},
        "model": manifest.model,
        "counters": manifest.counters,
        "recipe": manifest.recipe,
    }
    body = json.loads(json.dumps(body))  # what a reader will see: string keys, lists
    return json.dumps({**body, "sha256": _seal(body)}).encode()


def read_manifest(folder: Path) -> CheckpointManifest:
    """The manifest of a checkpoint folder, checked against its own sha256.

    Raises CheckpointError: no such folder, interrupted save, not JSON, unknown format, altered.
    """
    path = folder / MANIFEST
    try:
        body = read_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if other := checkpoint_of(folder):
            raise CheckpointError(f"{folder} {other}") from None
        missing = "is not complete (no checkpoint.json)" if folder.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {folder} {missing}; choose another one") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is damaged (not JSON); choose another one") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of the format {FORMAT}; choose another one")
    if body.pop("sha256", None) != _seal(body):
        raise CheckpointError(f"{path} was altered (its sha256 differs); choose another one")
    try:
        manifest = _parse(body)
        check_tensors(manifest.tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is damaged ({fault}); choose another one") from None
    return manifest


def safe_name(name: str) -> str:
    """The name, unchanged; CheckpointError unless it is a relative path inside the checkpoint."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise CheckpointError(f"file name {name!r} is not a relative path inside the checkpoint")
    return name


def _seal(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _parse(body: dict[str, Any]) -> CheckpointManifest:
    files = {
        safe_name(name): StoredFile(int(file["bytes"]), str(file["sha256"]))
        for name, file in body["files"].items()
    }
    tensors = {key: _parse_tensor(tensor, files) for key, tensor in body["tensors"].items()}
    model, counters = dict(body["model"]), dict(body["counters"])
    recipe = body["recipe"]
    if recipe is not None and recipe not in files:
        raise CheckpointError(f"the recipe's file {recipe!r} is not in its list of files")
    return CheckpointManifest(int(body["step"]), tensors, files, model, counters, recipe)


def _parse_tensor(tensor: dict[str, Any], files: Mapping[str, StoredFile]) -> StoredTensor:
    if tensor["dtype"] not in DTYPES:
        raise CheckpointError(f"unknown dtype {tensor['dtype']!r}")
    pieces = tuple(
        StoredPiece(p["file"], str(p["name"]), _integers(p["offset"]), _integers(p["shape"]))
        for p in tensor["pieces"]
    )
    for piece in pieces:
        if piece.file not in files:
            raise CheckpointError(f"a piece lies in {piece.file!r}, not in its list of files")
    return StoredTensor(tensor["dtype"], _integers(tensor["shape"]), pieces)


def _integers(values: list[Any]) -> tuple[int, ...]:
    if not all(type(value) is int for value in values):
        raise CheckpointError(f"{values!r} is not a list of integers")
    return tuple(values)
