"""One safetensors file, streamed to disk tensor by tensor and hashed as it is written.

The layout (https://huggingface.co/docs/safetensors): 8 bytes little-endian with the length of the
header, the header as JSON {name: {dtype, shape, data_offsets}}, then the tensors' bytes without
gaps. safetensors' own `save_file` would need every tensor on the CPU at once, and a second pass
over the file for the hash.
"""

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.checkpoint.format import (
    DTYPES,
    MANIFEST,
    CheckpointManifest,
    StoredFile,
    dtype_name,
    read_manifest,
)
from trainer.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_BLOCK_BYTES = 1 << 18
_FLUSH_BYTES = 8 << 20
_COPY_BYTES = 4 << 20
_WINDOW_BYTES = 4 << 20


@dataclass(frozen=True)
class Planned:
    """A tensor to be written; `produce` returns it, on any device, when it is written.

    The result must have exactly this dtype and shape.
    """

    name: str
    dtype: "torch.dtype"
    shape: tuple[int, ...]
    produce: "Callable[[], torch.Tensor]"

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * self.dtype.itemsize


def write_tensors(
    path: Path, tensors: Sequence[Planned], metadata: Mapping[str, str] | None = None
) -> StoredFile:
    """Write named tensors (contiguous or not) as one safetensors file, and fsync it.

    They are produced one at a time, so the largest bounds the memory. `metadata`: the header's
    `__metadata__`. Raises OSError (disk full, or the file exists).
    """
    with FileWriter(path) as out:
        for content in _content(tensors, metadata):
            out.write(content)
    return out.stored()


def write_again(path: Path, tensors: Sequence[Planned]) -> None:
    """As `write_tensors`, of what it has hashed elsewhere."""
    with FileWriter(path, hashed=False) as out:
        for content in _content(tensors):
            out.write(content)


def compare_tensors(path: Path, tensors: Sequence[Planned]) -> None:
    """Read back from the disk what `write_tensors` wrote; raises OSError where it is not that."""
    with FileComparer(path) as written:
        for content in _content(tensors):
            written.expect(content)


def _content(
    tensors: Sequence[Planned], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """The bytes of a file of these tensors, one behind another."""
    import torch

    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.nbytes
        entry = {"dtype": DTYPES[dtype_name(tensor.dtype)], "shape": list(tensor.shape)}
        header[tensor.name] = {**entry, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # the format aligns the data to 8 bytes
    yield len(encoded).to_bytes(8, "little")
    yield encoded
    for planned in tensors:
        values = planned.produce()
        assert values.dtype == planned.dtype and tuple(values.shape) == planned.shape, planned.name
        if values.numel():
            flat = values.detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().data


def write_bytes(path: Path, content: bytes) -> StoredFile:
    """Write a small file, and fsync it. Raises OSError (disk full, or the file exists)."""
    with FileWriter(path) as out:
        out.write(content)
    return out.stored()


class FileWriter:
    """A new file, hashed as it is written, and fsynced when the context exits without an error.

    `hashed`: without it `stored` does not know.

    A block is hashed and written while the processor's cache holds it, and the disk is set to work
    every few of them: what waits for the end is the last of them alone, and the page cache does not
    fill with what nobody reads.
    """

    def __init__(self, path: Path, hashed: bool = True) -> None:
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 (closed in __exit__)
        self._hash = hashlib.sha256() if hashed else None
        self._bytes = self._flushed = 0

    def write(self, content: bytes | memoryview) -> None:
        """Append all of the content."""
        view = memoryview(content)
        while view:
            block, view = view[:_BLOCK_BYTES], view[_BLOCK_BYTES:]
            if self._hash is not None:
                self._hash.update(block)
            self._bytes += len(block)
            while block:  # an unbuffered write may take only a part
                block = block[self._file.write(block) :]
            self._flush()

    def _flush(self) -> None:
        """Let the disk begin with what has been written, without waiting for it."""
        if (waiting := self._bytes - self._flushed) >= _FLUSH_BYTES:
            number = self._file.fileno()
            os.posix_fadvise(number, self._flushed, waiting, os.POSIX_FADV_DONTNEED)
            self._flushed = self._bytes

    def stored(self) -> StoredFile:
        """The size and sha256 of what was written."""
        assert self._hash is not None, "it was hashed"
        return StoredFile(self._bytes, self._hash.hexdigest())

    def __enter__(self) -> "FileWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.fsync(self._file.fileno())
                # Who reads it, reads what is on the disk, not this machine's memory of it.
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            self._file.close()


class FileComparer:
    """A file that was written and fsynced, read back from the disk and compared with its content.

    It is read past the page cache (O_DIRECT), so that it is the disk's and not this machine's
    memory of it; where the file system has no such reading, what it remembers is dropped first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        except OSError:
            self._file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        self._memory = mmap.mmap(-1, _WINDOW_BYTES)  # its pages are aligned, as O_DIRECT wants
        self._block = np.frombuffer(self._memory, dtype=np.uint8)
        self._offset = self._at = self._end = 0

    def expect(self, content: bytes | memoryview) -> None:
        """Compare what follows; raises OSError where it is something else."""
        wanted = np.frombuffer(content, dtype=np.uint8)
        while len(wanted):
            if self._at == self._end and not self._read():
                raise self._fault()
            size = min(len(wanted), self._end - self._at, _BLOCK_BYTES)
            if not np.array_equal(self._block[self._at : self._at + size], wanted[:size]):
                raise self._fault()
            self._at += size
            wanted = wanted[size:]

    def _read(self) -> int:
        """Read what follows into the block; how many bytes, 0 at the end of the file."""
        self._at = self._end = 0
        if self._offset < os.fstat(self._file).st_size:  # its end may lie where O_DIRECT can't read
            try:
                self._end = os.preadv(self._file, [self._memory], self._offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # It can be opened so, and not read so.
                os.close(self._file)
                self._file = os.open(self._path, os.O_RDONLY)
                self._end = os.preadv(self._file, [self._memory], self._offset)
        self._offset += self._end
        return self._end

    def _fault(self) -> OSError:
        return OSError(errno.EIO, f"{self._path.name} is not what was written to it")

    def __enter__(self) -> "FileComparer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and (self._at < self._end or self._read()):
                raise self._fault()
        finally:
            os.close(self._file)


def copy_verified(
    source: Path, target: Path, stored: StoredFile, beat: Callable[[], None] = lambda: None
) -> None:
    """Copy a file of a checkpoint to a new one, and read that back; both are hashed.

    `beat` is called with each part. Raises CheckpointError where the source is not what was saved
    or cannot be read, OSError where it cannot be copied, or the copy is not what was written.
    """
    with FileWriter(target) as out:
        for block in _blocks_of(source):
            out.write(block)
            beat()
    if out.stored() != stored:
        raise CheckpointError(f"{source} was altered (its sha256 differs)")
    if fault := hash_fault(target.parent, target.name, stored):
        raise OSError(errno.EIO, fault)


def _blocks_of(source: Path) -> Iterator[bytes]:
    try:
        with open(source, "rb") as file:
            while block := file.read(_COPY_BYTES):
                yield block
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror}") from None


def size_fault(folder: Path, name: str, stored: StoredFile) -> str | None:
    """Why a file can't be the one that was saved, from its size alone; None where it may be."""
    try:
        size = (folder / name).stat().st_size
    except FileNotFoundError:
        return f"{folder / name} is missing"
    except OSError as error:
        return f"{folder / name} cannot be read: {error.strerror}"
    if size != stored.bytes:
        return f"{folder / name} has {size} bytes, {stored.bytes} were saved"
    return None


def hash_fault(folder: Path, name: str, stored: StoredFile) -> str | None:
    """Why a file is not the one that was saved; None: its size and sha256 are right."""
    fault = size_fault(folder, name, stored)
    if fault:
        return fault
    try:
        with open(folder / name, "rb") as file:
            # The disk reads ahead while the processor hashes.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{folder / name} cannot be read: {error.strerror}"
    return None if digest == stored.sha256 else f"{folder / name} was altered (its sha256 differs)"


def complete_manifest(folder: Path) -> CheckpointManifest:
    """The manifest of a checkpoint whose files are all there with the right sizes.

    Raises CheckpointError naming the first file that is missing or of another size.
    """
    manifest = read_manifest(folder)
    for name, stored in manifest.files.items():
        fault = size_fault(folder, name, stored)
        if fault:
            raise CheckpointError(f"{fault}; choose another checkpoint")
    return manifest


def verify_checkpoint(folder: Path) -> list[str]:
    """Every fault of a checkpoint, one line each, naming the file; empty for a sound one.

    Reads all of it. Files that the manifest does not list are faults too, though never loaded.
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
    except CheckpointError as error:
        return [str(error)]
    faults = [hash_fault(folder, name, stored) for name, stored in manifest.files.items()]
    known = {MANIFEST, *manifest.files}
    strangers = sorted(
        str(path)
        for path in folder.rglob("*")
        if not path.is_dir() and path.relative_to(folder).as_posix() not in known
    )
    return [fault for fault in faults if fault] + [
        f"{path} does not belong to the checkpoint" for path in strangers
    ]
