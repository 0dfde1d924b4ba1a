"""The samples of a WebDataset tar: files with one key, one after the other, read as a stream."""

import io
import logging
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import CHUNK, Counted, PlainStream, Unpacked, open_raw
from trainer.corpus.reading.quarantine import Oversize
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.remote import scheme_of
from trainer.corpus.reading.text import read_whole
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
LINKS = "links, which WebDataset does not follow"
"""What links are counted as."""
MEND = "fetch it again, or pack it again"
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")


@dataclass(slots=True)
class TarSample:
    """A sample: its `key`, and its members by extension, in the order of the tar.

    A member is its bytes, None where it was not wanted, or an Oversize.
    """

    key: str
    members: dict[str, bytes | Oversize | None]


def key_and_extension(name: str) -> tuple[str, str] | None:
    """WebDataset's rule: a file's name up to the first dot behind its folder is the key, the rest
    the extension, in lower case. None for a file that belongs to no sample: without an extension,
    hidden, or of WebDataset's own (`__NAME__`, or below a folder of such a name).
    """
    found = None if _META.match(name) else _NAME.match(name)
    return (found[1], found[2].lower()) if found else None


def read_samples(
    file: InputFile,
    options: ReadOptions,
    wanted: Callable[[str], bool] = lambda _: True,
    passed_over: Counter[str] | None = None,
) -> Iterator[TarSample]:
    """The samples of a tar, in order; the members whose extension is `wanted` with their bytes.

    As WebDataset groups them: files of one key belong together only where they follow one another,
    and folders and links are passed over, the links counted in `passed_over`. The tar may be packed
    with gzip, bzip2, xz or zstd, whatever its name says. Memory: the wanted members of a sample,
    each up to `options.record_bytes`.

    Raises DataError, naming the tar, where it is missing, changed, damaged, cut short (also where
    only its end marker is missing, as behind a cut between two members), or has a sample with two
    members of one extension.
    """
    sample: TarSample | None = None
    counts = Counter[str]() if passed_over is None else passed_over
    for key, extension, content in _members(file, options, wanted, counts):
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key, {})
        if extension in sample.members:
            raise DataError(
                f"{file.shown}: sample {key} has two members .{extension}, of which only one can be"
                " meant: rename one, and pack the tar again"
            )
        sample.members[extension] = content
    if sample is not None:
        yield sample


def _members(
    file: InputFile,
    options: ReadOptions,
    wanted: Callable[[str], bool],
    passed_over: Counter[str],
) -> Iterator[tuple[str, str, bytes | Oversize | None]]:
    """(key, extension, content) of each regular file of the tar that belongs to a sample."""
    with _open_tar(file, options) as tar:
        try:
            for member in tar:
                if member.issym() or member.islnk():
                    passed_over[LINKS] += 1
                named = key_and_extension(member.name) if member.isreg() else None
                if named is not None:
                    content: bytes | Oversize | None = None
                    if wanted(named[1]):
                        stream = cast(PlainStream, tar.extractfile(member))
                        content = read_whole(stream, options.record_bytes)
                    yield *named, content
                # tarfile would keep the header of every member.
                tar.members = []  # type: ignore[attr-defined]
        except tarfile.TarError as error:
            raise DataError(
                f"{file.shown}: damaged or cut short near byte {tar.offset} ({error}): {MEND}"
            ) from None
        _check_end(file, tar)


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


@contextmanager
def _open_tar(file: InputFile, options: ReadOptions) -> Iterator[tarfile.TarFile]:
    with _stored(file, options) as stored:
        counted = Counted(file, stored)
        packed: Any = io.BufferedReader(counted, CHUNK)
        start = packed.peek(8)
        compression = next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")
        if compression:
            packed = io.BufferedReader(
                Unpacked(file, counted, packed, compression, options.limits), CHUNK
            )
        try:
            tar = tarfile.open(  # noqa: SIM115 (closed below, outside the try)
                fileobj=packed, mode="r|", bufsize=CHUNK, tarinfo=_Header
            )
        except tarfile.TarError as error:
            raise DataError(f"{file.shown}: is no tar ({error}): {MEND}, or leave it out") from None
        with tar:
            yield tar


@contextmanager
def _stored(file: InputFile, options: ReadOptions) -> Iterator[BinaryIO]:
    if not scheme_of(file.path):
        with open_raw(file, options.anonymous) as local:
            yield local
        return
    url = place(file.path)
    assert isinstance(url, Url), "a scheme makes a URL"
    with StreamedFile(url, Attempts(options.remote)) as remote:
        yield cast(BinaryIO, remote)


def _check_end(file: InputFile, tar: tarfile.TarFile) -> None:
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
