"""The header of a GGUF file: its metadata, and where its tensors lie."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from trainer.errors import CheckpointError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = "general.alignment"
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    **{0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4"},
    **{6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"},
}
"""numpy's dtypes by GGUF's types of values."""


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies: `start`, its first byte in `file`, and its `nbytes`.

    `shape`: as torch has it; GGUF writes the last dimension first.
    """

    file: Path
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, the last dimension."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return self.shape[-1] // block * size


@dataclass(frozen=True)
class Header:
    """The metadata of a GGUF file by key, and its tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_header(path: Path) -> Header:
    """Read a file's header; none of its tensors is read.

    Raises CheckpointError where the file is missing, no GGUF, of another byte order or version, or
    ends before its last tensor does.
    """
    try:
        with path.open("rb") as file:
            return _Reading(path, file, path.stat().st_size).header()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}; name a GGUF file"
        ) from None


class _Reading:
    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size = path, file, size

    def header(self) -> Header:
        magic = self._file.read(4)
        if magic != MAGIC:
            raise CheckpointError(
                f"{self._path} is no GGUF file: it begins with {magic!r} and not with {MAGIC!r};"
                " name one, or a Hugging Face folder"
            )
        version = self._number("<u4")
        if version and not version & 0xFFFF:
            raise CheckpointError(
                f"{self._path} is written for big-endian machines, and only little-endian files are"
                " read; fetch the other file, or convert it with gguf-convert-endian"
            )
        if version not in _VERSIONS:
            raise CheckpointError(
                f"{self._path} is of GGUF version {version}, and 2 and 3 are read; convert the"
                " model again"
            )
        tensors, keys = self._number("<u8"), self._number("<u8")
        metadata = {}
        for _ in range(self._counted(keys)):
            key = self._text()
            metadata[key] = self._value(self._number("<u4"))
        return Header(metadata, self._tensors(self._counted(tensors), metadata))

    def _tensors(self, count: int, metadata: dict[str, Any]) -> dict[str, GgufTensor]:
        listed = {}
        for _ in range(count):
            name = self._text()
            sizes = [self._number("<u8") for _ in range(self._counted(self._number("<u4")))]
            kind, offset = self._number("<u4"), self._number("<u8")
            listed[name] = (tuple(reversed(sizes)), kind, offset)
        alignment = metadata.get(_ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"{_ALIGNMENT} is {alignment!r} and no power of two")
        data = -(-self._file.tell() // alignment) * alignment
        return {name: self._stored(name, *described, data) for name, described in listed.items()}

    def _stored(
        self, name: str, shape: tuple[int, ...], kind: int, offset: int, data: int
    ) -> GgufTensor:
        try:
            known = GGMLQuantizationType(kind)
        except ValueError:
            raise CheckpointError(
                f"{self._path}: {name} is of type {kind}, which the gguf package does not know;"
                " convert the model to another quantization"
            ) from None
        block, size = GGML_QUANT_SIZES[known]
        if not shape or min(shape) < 1 or shape[-1] % block:
            raise self._damaged(
                f"{name} has shape {list(shape)}, and a row of {known.name} holds a multiple of"
                f" {block} numbers"
            )
        nbytes = prod(shape) // block * size
        if data + offset + nbytes > self._size:
            there = max(0, self._size - data - offset)
            raise self._damaged(f"it ends inside {name}: {there:,} of {nbytes:,} bytes are there")
        return GgufTensor(self._path, known, shape, data + offset, nbytes)

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise self._damaged(f"a value is of type {kind}, which GGUF does not have")
        of, count = self._number("<u4"), self._counted(self._number("<u8"))
        if of in _NUMBERS:
            dtype = np.dtype(_NUMBERS[of])
            return np.frombuffer(self._bytes(count * dtype.itemsize), dtype).tolist()
        if of != _STRING:
            raise self._damaged(f"a list holds values of type {of}, which are not read")
        return [self._text() for _ in range(count)]

    def _text(self) -> str:
        content = self._bytes(self._number("<u8"))
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"a text in it is not UTF-8: {error.reason}") from None

    def _number(self, dtype: str) -> Any:
        known = np.dtype(dtype)
        return np.frombuffer(self._bytes(known.itemsize), known)[0].item()

    def _counted(self, count: int) -> int:
        """A count that the rest of the file can hold, each with a byte at least."""
        if count > self._size:
            raise self._damaged(f"it says that it holds {count:,} entries in {self._size:,} bytes")
        return count

    def _bytes(self, count: int) -> bytes:
        content = self._file.read(count) if count <= self._size else b""
        if len(content) < count:
            raise self._damaged(f"it ends inside its header, after {self._size:,} bytes")
        return content

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._path} is damaged: {what}; fetch it again")
