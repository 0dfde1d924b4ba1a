"""The samples of a WebDataset tar: files with one key, one after the other."""

import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import PlainStream
from trainer.corpus.reading.quarantine import Oversize
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.tar_opening import MEND, check_end, open_tar
from trainer.corpus.reading.text import read_whole
from trainer.errors import DataError

LINKS = "links, which WebDataset does not follow"
"""What links are counted as."""
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
    with open_tar(file, options) as tar:
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
        check_end(file, tar)
