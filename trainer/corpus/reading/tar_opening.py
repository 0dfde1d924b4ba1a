"""Opening a tar that may be packed, here or behind a URL, and checking that it is whole."""

import io
import logging
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import CHUNK, Counted, Unpacked, open_raw
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.remote import scheme_of
from trainer.data.remote.location import Url, place
from trainer.data.remote.streamed import StreamedFile
from trainer.data.remote.transfer import Attempts
from trainer.errors import DataError

log = logging.getLogger(__name__)

MAGIC = {
    b"\x1f\x8b": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
    **{bytes([low, 0x2A, 0x4D, 0x18]): ".zst" for low in range(0x50, 0x60)},  # frames to be skipped
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
}
JUMP = 1 << 14
"""Bytes read at once of a local tar: more would be read for nothing behind most jumps."""
MEND = "fetch it again, or pack it again"


class _Header(tarfile.TarInfo):
    """Remembers why the last header was none: tarfile itself ends silently at a damaged one."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Header":
        """The next header; raises tarfile's HeaderError."""
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            tar.ended_by = error  # type: ignore[attr-defined]
            raise


class _Jumping(io.RawIOBase):
    """A local tar, read by jumps: of a terabyte of pictures with captions, only the captions."""

    def __init__(self, file: InputFile, stored: BinaryIO) -> None:
        super().__init__()
        self._file, self._stored = file, cast(io.RawIOBase, stored)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Jump; returns the new position."""
        return self._stored.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        """Fill some of the buffer. Raises DataError for a failed read."""
        try:
            return self._stored.readinto(buffer) or 0
        except OSError as error:
            raise DataError(f"{self._file.path}: reading failed: {error.strerror}") from None


@contextmanager
def open_tar(file: InputFile, options: ReadOptions) -> Iterator[tarfile.TarFile]:
    """The tar, unpacked within the limits of `options`: read by jumps where it lies here as it is,
    else from its beginning to its end. Raises DataError, naming it, where it cannot be opened.
    """
    with _stored(file, options) as stored:
        counted = Counted(file, stored)
        packed: Any = io.BufferedReader(counted, CHUNK)
        start = packed.peek(8)
        compression = next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")
        mode = "r|"
        if compression:
            packed = io.BufferedReader(
                Unpacked(file, counted, packed, compression, options.limits), CHUNK
            )
        elif not scheme_of(file.path) and stored.seekable():
            stored.seek(0)
            packed, mode = io.BufferedReader(_Jumping(file, stored), JUMP), "r:"
        try:
            tar: tarfile.TarFile = tarfile.open(  # type: ignore[call-overload] # noqa: SIM115
                fileobj=packed, mode=mode, bufsize=CHUNK, tarinfo=_Header
            )
        except tarfile.TarError as error:
            raise DataError(f"{file.shown}: is no tar ({error}): {MEND}, or leave it out") from None
        with tar:
            yield tar


@contextmanager
def _stored(file: InputFile, options: ReadOptions) -> Iterator[BinaryIO]:
    if not scheme_of(file.path):
        with open_raw(file, options.access) as local:
            yield local
        return
    url = place(file.path)
    assert isinstance(url, Url), "a scheme makes a URL"
    with StreamedFile(url, Attempts(options.remote)) as remote:
        yield cast(BinaryIO, remote)


def check_end(file: InputFile, tar: tarfile.TarFile) -> None:
    """Raise DataError unless an end marker stopped the reading, and read what stands behind it, by
    which a compressed tar is checked to its end.
    """
    why = getattr(tar, "ended_by", None)
    kind = type(why).__name__  # tarfile names only their common base in public
    if kind in ("EmptyHeaderError", "TruncatedHeaderError"):
        raise DataError(
            f"{file.shown}: cut short at byte {tar.offset}: the end marker of a tar is missing;"
            f" {MEND}"
        )
    if kind != "EOFHeaderError":
        raise DataError(
            f"{file.shown}: damaged at byte {tar.offset}, where the header of a member should be"
            f" ({why}): {MEND}"
        )
    behind = 0
    while chunk := cast(Any, tar.fileobj).read(CHUNK):
        behind += len(chunk.rstrip(b"\0"))
    if behind:
        log.warning(
            "%s: %s bytes behind its end marker are not read, as WebDataset does not: where tars"
            " were joined, list them one by one",
            *(file.shown, f"{behind:,}"),
        )
