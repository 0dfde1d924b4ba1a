"""Files that appear whole or not at all, a lock that is waited for, and the user's cache.

Every writer of the house does the same: it writes under a temporary name in the same folder, puts
the bytes on disk, renames, and puts the name on disk. A process that is killed leaves the old file
and a `*.PID.tmp` beside it, which nobody reads.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

TEMPORARY_SUFFIX = ".tmp"
"""Of what a killed process leaves behind."""


class WholeFile:
    """A file being written: `file` takes the bytes, and `commit` gives it its name at `path`.

    `durable=False` leaves out both flushes to disk, for what is written again within seconds or
    made again from what is durable: after a power cut the old file may be there, or an empty one.
    """

    def __init__(self, path: Path, durable: bool = True) -> None:
        self.path, self._durable = path, durable
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        self.file: BinaryIO = self._temporary.open("wb")

    def commit(self) -> None:
        """Put the file on disk, under its name; an OSError leaves what was there before."""
        try:
            self.file.flush()
            if self._durable:
                os.fsync(self.file.fileno())
            self.file.close()
            self._temporary.replace(self.path)
        except BaseException:
            self.discard()
            raise
        if self._durable:
            sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave what was there before."""
        try:
            self.file.close()  # what is left in its buffer may find the disk full
        finally:
            self._temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write in this block, which is there once the block has ended without an error."""
    whole = WholeFile(path, durable)
    try:
        yield whole.file
    except BaseException:
        whole.discard()
        raise
    whole.commit()


def write_whole(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Write a small file, text as UTF-8, whole or not at all; raises OSError (disk full)."""
    with whole_file(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def build_lock(out: Path) -> Iterator[None]:
    """Hold the lock of the folder `out`; a second process waits here. A killed process loses it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(out.parent / f".{out.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process builds %s: waiting for it", out)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def cache_folder(name: str) -> Path:
    """The folder `name` of the user's cache: below LYCEUM_CACHE, or else ~/.cache/lyceum."""
    return Path(os.environ.get("LYCEUM_CACHE") or "~/.cache/lyceum").expanduser() / name
