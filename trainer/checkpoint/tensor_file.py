"""One safetensors file, streamed to disk tensor by tensor and hashed on the way.

The layout (https://huggingface.co/docs/safetensors): 8 bytes little-endian with the length of the
header, the header as JSON {name: {dtype, shape, data_offsets}}, then the tensors' bytes without a
gap. safetensors' own `save_file` would need every tensor on the CPU at once, and a second reading
for the hash.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from trainer.checkpoint.format import StoredFile

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Sequence[tuple[str, torch.Tensor]]) -> StoredFile:
    """Write named tensors (any device, contiguous or not) as one safetensors file, and fsync it.

    Beyond the tensors themselves it needs the memory of one of them. Raises OSError (disk full).
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + tensor.nbytes
        entry = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**entry, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # the format aligns the data to 8 bytes
    with FileWriter(path) as out:
        out.write(len(encoded).to_bytes(8, "little"))
        out.write(encoded)
        for _, tensor in tensors:
            if tensor.numel():
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                out.write(flat.view(torch.uint8).numpy().data)
    return out.stored()


def write_bytes(path: Path, content: bytes) -> StoredFile:
    """Write a small file, and fsync it. Raises OSError (disk full)."""
    with FileWriter(path) as out:
        out.write(content)
    return out.stored()


class FileWriter:
    """A new file that is hashed as it is written and is on the disk when the context closes."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 (closed in __exit__)
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, content: bytes | memoryview) -> None:
        """Append all of the content."""
        self._hash.update(content)
        view = memoryview(content)
        self._bytes += len(view)
        while view:  # an unbuffered write may take only a part
            view = view[self._file.write(view) :]

    def stored(self) -> StoredFile:
        """The size and hash of what was written."""
        return StoredFile(self._bytes, self._hash.hexdigest())

    def __enter__(self) -> "FileWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries (new names, renames) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
