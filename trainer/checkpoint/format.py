"""The checkpoint on disk: a folder of safetensors files and one checkpoint.json, written last.

    step-00000100/
      checkpoint.json          the manifest: where each part of each global tensor lies, counters
      rank-00000.safetensors   the pieces that rank 0 wrote (rank-00000-00001: its second file)
      recipe.yaml  tokenizer/  attachments

Nothing here can run code: tensors are safetensors, all else is JSON or plain bytes. The manifest
carries the sha256 of every other file, and of itself (of its JSON without that one key), so that a
changed bit anywhere is found before a tensor is used.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from trainer.checkpoint.boxes import tiling_fault
from trainer.errors import CheckpointError

FORMAT = "lyceum-checkpoint/1"
MANIFEST = "checkpoint.json"
FOLDER_NAME = re.compile(r"step-(\d{8,})")

DTYPES: Mapping[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
"""The names of the dtypes that a checkpoint can hold."""


@dataclass(frozen=True)
class Piece:
    """A box of a global tensor, as one rank saves it.

    `tensor`: the box's values, any device, of shape [*box]; its first element stands at `offset`
    of the global tensor `key`, whose shape is `global_shape`. Zero-dimensional tensors have empty
    tuples. The tensor may be a view of a live one: it is copied when it is written. One on the meta
    device says only what is to come: `produce` then gives the values when they are written.
    """

    key: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    tensor: torch.Tensor
    produce: Callable[[], torch.Tensor] | None = None

    def values(self) -> torch.Tensor:
        """The box's values."""
        return self.tensor if self.produce is None else self.produce()


@dataclass(frozen=True)
class StoredPiece:
    """Where a box of a tensor lies: the name of a tensor in one of the safetensors files."""

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
class Manifest:
    """What checkpoint.json says. `recipe`: the name of the recipe's file, None without one."""

    step: int
    tensors: Mapping[str, StoredTensor]
    files: Mapping[str, StoredFile]
    model: dict[str, Any]
    counters: dict[str, Any]
    recipe: str | None


def folder_name(step: int) -> str:
    """The folder of a step's checkpoint."""
    return f"step-{step:08d}"


def check_tensors(tensors: Mapping[str, StoredTensor]) -> None:
    """Raise CheckpointError where a tensor's pieces overlap, leave a hole, or lie outside it."""
    for key, tensor in tensors.items():
        fault = tiling_fault([(p.offset, p.shape) for p in tensor.pieces], tensor.shape)
        if fault:
            raise CheckpointError(f"tensor {key} of shape {list(tensor.shape)}: {fault}")


def manifest_bytes(manifest: Manifest) -> bytes:
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


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder, checked against its own sha256.

    Raises CheckpointError: no such folder, interrupted save, not JSON, unknown format, altered.
    """
    path = folder / MANIFEST
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is damaged ({fault}); choose another one") from None
    return manifest


def safe_name(name: str) -> str:
    """The name itself, if it is a plain relative path below the checkpoint's folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise CheckpointError(f"file name {name!r} is not a relative path inside the checkpoint")
    return name


def _seal(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _parse(body: dict[str, Any]) -> Manifest:
    files = {
        safe_name(name): StoredFile(int(file["bytes"]), str(file["sha256"]))
        for name, file in body["files"].items()
    }
    tensors = {key: _parse_tensor(tensor, files) for key, tensor in body["tensors"].items()}
    model, counters = dict(body["model"]), dict(body["counters"])
    recipe = body["recipe"]
    if recipe is not None and recipe not in files:
        raise CheckpointError(f"the recipe's file {recipe!r} is not in its list of files")
    return Manifest(int(body["step"]), tensors, files, model, counters, recipe)


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
