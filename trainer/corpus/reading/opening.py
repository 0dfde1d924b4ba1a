"""Opening an input file as a stream of bytes: checked against its name, and decompressed within
limits.
"""

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeAlias, cast

from trainer.corpus.reading.files import UNKNOWN_BYTES, InputFile, kind_of, local_version
from trainer.corpus.reading.remote import named_errors, open_remote, scheme_of
from trainer.corpus.reading.zstd_dictionary import DICTIONARY_FRAME, DictionaryStream
from trainer.errors import DataError
from trainer.recipe.curation import Limits
from trainer.recipe.data import Access

MIB = 2**20
CHUNK = MIB // 4
FREE_EXPANSION = 64 * MIB
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    # Frames to be skipped (RFC 8878, 3.1.2), with which pzstd begins, and archives' dictionaries.
    **{bytes([low, 0x2A, 0x4D, 0x18]): "zstd" for low in range(0x50, 0x60)},
    b"PAR1\x15": "Parquet",
    b"PK\3\4": "zip",
}
MAGIC_BYTES = max(len(magic) for magic in MAGIC)
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = len(POINTER)
PlainStream: TypeAlias = "io.BufferedReader[Any]"
EXPECTED = {".gz": "gzip", ".zst": "zstd", "": None}


@contextmanager
def open_plain(file: InputFile, limits: Limits, access: Access) -> Iterator[PlainStream]:
    """The file's bytes, decompressed, as a buffered stream; memory: a few chunks of 256 KiB.

    Raises DataError, on opening or while reading, for a file that is missing, changed since it was
    listed, compressed otherwise than its name says, damaged or truncated, or that decompresses to
    more than `limits.expansion` allows. A truncated file never passes for a whole one.
    """
    compression = kind_of(file.path)[1]
    with open_raw(file, access) as stored:
        counted = Counted(file, stored)
        packed = io.BufferedReader(counted, CHUNK)
        refuse_pointer(file.path, packed.peek(POINTER_BYTES))
        _check_magic(file.path, packed.peek(MAGIC_BYTES), EXPECTED[compression])
        if not compression or not packed.peek(1):
            yield packed
            return
        plain = io.BufferedReader(Unpacked(file, counted, packed, compression, limits), CHUNK)
        _check_magic(file.path, plain.peek(MAGIC_BYTES), None, inside=True)
        yield plain


@contextmanager
def open_raw(file: InputFile, access: Access, seekable: bool = False) -> Iterator[BinaryIO]:
    """The file's bytes as stored. Raises DataError where it is missing, changed or refused."""
    if scheme_of(file.path):
        with open_remote(file.path, access, seekable) as remote:
            yield remote
        return
    try:
        local = open(file.path, "rb", buffering=0)  # noqa: SIM115 (closed below, outside the try)
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from None
    with local:
        if file.version and local_version(os.fstat(local.fileno())) != file.version:
            raise DataError(f"{file.path}: has changed since the build began: start it anew")
        yield cast(BinaryIO, local)


class Counted(io.RawIOBase):
    """The stored bytes of a file; `offset`: how many were read, checked against its size."""

    def __init__(self, file: InputFile, stored: BinaryIO) -> None:
        super().__init__()
        self.offset = 0
        self._file, self._stored = file, stored
        self._ended = False

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer. Raises DataError for a failed read, or fewer than `file.bytes` bytes."""
        if self._ended:  # buffers ask again, of which aiohttp warns
            return 0
        if scheme_of(self._file.path) is None:
            try:
                count = cast(io.RawIOBase, self._stored).readinto(buffer) or 0
            except OSError as error:
                raise DataError(
                    f"{self._file.path}: reading failed at byte {self.offset}: {error.strerror}"
                ) from None
        else:
            with named_errors(self._file.path):
                count = self._fill(buffer)
        self.offset += count
        if count == 0 and len(buffer) and self._file.bytes not in (UNKNOWN_BYTES, self.offset):
            raise DataError(
                f"{self._file.path}: ends after {self.offset} bytes, {self._file.bytes} were"
                " listed: it was cut short or changed; start the build anew"
            )
        self._ended = count == 0 and len(buffer) > 0
        return count

    def _fill(self, buffer: Any) -> int:
        """Read until the buffer is full or the file ends: a connection may return fewer bytes."""
        count = 0
        while count < len(buffer) and (data := self._stored.read(len(buffer) - count)):
            buffer[count : count + len(data)] = data
            count += len(data)
        return count


class Unpacked(io.RawIOBase):
    """The decompressed bytes of a compressed file of any number of members, a chunk at a time."""

    def __init__(
        self,
        file: InputFile,
        counted: Counted,
        packed: PlainStream,
        compression: str,
        limits: Limits,
    ) -> None:
        super().__init__()
        self._file, self._counted, self._limits = file, counted, limits
        self._unpacked = 0
        self._stream = _unpacker(packed, compression)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer. Raises DataError for a damaged or truncated file, or a zip bomb."""
        try:
            data = self._stream.read(min(len(buffer), CHUNK))
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            message = " ".join(str(error).split())
            if "too much memory" in message:
                raise DataError(
                    f"{self._file.path}: was packed with a window of more than 128 MiB (zstd"
                    " --long): pack it anew without"
                ) from None
            raise DataError(
                f"{self._file.path}: damaged or cut short near byte {self._counted.offset} of the"
                f" compressed file ({message}): fetch it again, or leave it out"
            ) from None
        self._unpacked += len(data)
        check_expansion(self._file, self._counted.offset, self._unpacked, self._limits)
        buffer[: len(data)] = data
        return len(data)


def check_expansion(file: InputFile, read: int, unpacked: int, limits: Limits) -> None:
    """Raise DataError if `unpacked` bytes are more than a file may decompress to.

    `read`: stored bytes read so far, used where the file's size is unknown.
    """
    stored = read if file.bytes == UNKNOWN_BYTES else file.bytes
    bound = limits.expansion * stored + FREE_EXPANSION
    if unpacked > bound:
        raise DataError(
            f"{file.path}: {stored} bytes unpack to more than {bound}, as a zip bomb does: leave it"
            " out, or raise corpus.limits.expansion"
        )


def _unpacker(packed: PlainStream, compression: str) -> Any:
    if compression == ".gz":
        return gzip.GzipFile(fileobj=packed)
    if compression in (".bz2", ".xz"):  # tars only
        return bz2.BZ2File(packed) if compression == ".bz2" else lzma.LZMAFile(packed)
    dictionary = packed.peek(len(DICTIONARY_FRAME)).startswith(DICTIONARY_FRAME)
    try:
        if dictionary:
            import zstandard  # noqa: F401

            return DictionaryStream(packed)
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"reading .zst needs {error.name}: install the extra lyceum[data]"
        ) from None
    # Not zstandard's stream_reader, which reports no error for a truncated file.
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(packed, "r"), "zstd")


def refuse_pointer(path: str, start: bytes) -> None:
    """Raise DataError for a few lines of Git LFS in a file's stead, by its first POINTER_BYTES."""
    if start.startswith(POINTER):
        raise DataError(
            f"{path}: is a pointer of Git LFS, not the file itself: fetch it (git lfs pull)"
        )


def _check_magic(path: str, start: bytes, expected: str | None, inside: bool = False) -> None:
    """Raise DataError unless the first bytes are of the compression that the name says."""
    found = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if not start or found == expected:
        return
    if inside:
        raise DataError(f"{path}: holds {found} inside its compression: unpack it once")
    if expected is None:
        raise DataError(f"{path}: is {found}, which its name does not say: name it for what it is")
    raise DataError(
        f"{path}: is not {expected}, which its name says, but {found or 'something else'}: name it"
        " for what it is"
    )
