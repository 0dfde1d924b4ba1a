"""This node's disk cache of shards: bounded, shared by its processes, crash-safe.

objects/SHA256 are complete files; a reader holds a shared lock on the file. incoming/SHA256.BYTES
are downloads in progress, for which BYTES are reserved; the downloading process holds an exclusive
lock. Files are added, moved and removed under the lock of `room`. The kernel frees the locks of a
killed process.
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from trainer.data.remote.transfer import Attempts, Wanted, download
from trainer.data.shards import file_sha256
from trainer.errors import DataError
from trainer.files import cache_folder
from trainer.recipe.data import RemoteSection

log = logging.getLogger(__name__)

GIB = 1 << 30
ROOM_WAIT_SECONDS = 600.0
"""How long a reader waits for others to be done with the shards that fill the cache."""
ROOM_POLL_SECONDS = 0.1
MEND = "raise data.remote.cache_gib"


class NoRoom(DataError):
    """The cache is full of files that are being read."""


class CachedFile:
    """A complete file of the cache, locked against removal until it is closed."""

    def __init__(self, path: Path, file: int):
        self.path = path
        self._file = file

    def close(self) -> None:
        """Release the lock: the file may be evicted."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()


class _Entry(NamedTuple):
    used_ns: int
    bytes: int
    path: Path


def shard_cache(remote: RemoteSection) -> Path:
    """The folder of the shard cache: `data.remote.cache`, or one in the user's cache folder."""
    return cache_folder("shards") if remote.cache is None else Path(remote.cache).expanduser()


class Cache:
    """A folder of files named by their sha256, never larger than `data.remote.cache_gib`.

    A download counts with its full size from its beginning.
    """

    def __init__(self, remote: RemoteSection):
        self.folder = shard_cache(remote)
        self.limit = int(remote.cache_gib * GIB)
        self._objects, self._incoming = self.folder / "objects", self.folder / "incoming"

    def fetch(self, wanted: Wanted, attempts: Attempts, patient: bool = True) -> CachedFile:
        """The file, downloaded unless it is cached; of several processes one downloads it.

        Without room, `patient` waits ROOM_WAIT_SECONDS for other readers. Raises NoRoom after
        that, and DataError for a file larger than the cache, for a disk that is full or refuses,
        and as `download` does.
        """
        if not re.fullmatch("[0-9a-f]{64}", wanted.sha256):
            raise DataError(
                f"the manifest of {wanted.url.shown} has a damaged sha256: build the corpus again"
            )
        try:
            for folder in (self._objects, self._incoming):
                folder.mkdir(parents=True, exist_ok=True)
            while True:
                kept = self._find(wanted.sha256) or self._download(wanted, attempts, patient)
                if kept is not None:
                    return kept
                attempts.check()
        except OSError as error:
            raise DataError(
                f"cannot keep {wanted.url.shown} in {self.folder}: {error.strerror or error}; free"
                " space there, lower data.remote.cache_gib, or name another folder as"
                " data.remote.cache"
            ) from None

    def _find(self, sha256: str) -> CachedFile | None:
        """The cached file, locked; None where it is absent. A damaged one is removed."""
        path = self._objects / sha256
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        kept = CachedFile(path, file)
        fcntl.flock(file, fcntl.LOCK_SH)
        status = os.fstat(file)
        if status.st_nlink == 0:
            kept.close()
            return None
        # The access time is set by hand, since most disks are mounted not to record it; the
        # modification time stays, since it is part of the key of the checksum cache (file_sha256).
        os.utime(file, ns=(time.time_ns(), status.st_mtime_ns))
        if file_sha256(str(path), status.st_size, status.st_mtime_ns) == sha256:
            return kept
        log.warning("%s is damaged: fetching it again", path)
        with self._room():
            # Another process may have put a whole one in its place meanwhile.
            if os.fstat(file).st_nlink:
                path.unlink()
        kept.close()
        return None

    def _download(self, wanted: Wanted, attempts: Attempts, patient: bool) -> CachedFile | None:
        """Download the file; None where another process downloaded or removed it meanwhile."""
        path = self._incoming / f"{wanted.sha256}.{wanted.bytes}"
        reserved = self._reserve(path, wanted, attempts, patient)
        if reserved is None:
            return None
        with reserved as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Until it is fetched. A shared lock, because readers will hold one on this file.
                fcntl.flock(file, fcntl.LOCK_SH)
                return None
            if os.fstat(file.fileno()).st_nlink == 0 or not path.exists():
                return None
            download(wanted, file, attempts)
            file.flush()
            os.fsync(file.fileno())
            whole = self._objects / wanted.sha256
            with self._room():
                path.rename(whole)
                fcntl.flock(file, fcntl.LOCK_SH)
                return CachedFile(whole, os.dup(file.fileno()))

    def _reserve(
        self, path: Path, wanted: Wanted, attempts: Attempts, patient: bool
    ) -> BinaryIO | None:
        """Open the file's entry in incoming/, first making it, and room for it, where it is absent.

        None where the complete file has appeared since it was looked up.
        """
        if wanted.bytes > self.limit:
            raise DataError(
                f"{wanted.url.shown} has {wanted.bytes / GIB:.3g} GiB, and data.remote.cache_gib is"
                f" {self.limit / GIB:.3g}: raise it"
            )
        started, reported = attempts.clock(), False
        while True:
            with self._room():
                if (self._objects / wanted.sha256).exists():
                    return None
                if path.exists():
                    return path.open("r+b")
                missing = self._make_room(wanted.bytes)
                if missing <= 0:
                    file = path.open("x+b")
                    # Locked before others may take it for one that a killed process left.
                    fcntl.flock(file, fcntl.LOCK_EX)
                    return file
            if not patient or attempts.clock() - started >= ROOM_WAIT_SECONDS:
                raise NoRoom(
                    f"no room for {wanted.url.shown} in {self.folder}: what fills it is being read;"
                    f" raise data.remote.cache_gib to {(self.limit + missing) / GIB:.3g} or more"
                    f" (now {self.limit / GIB:.3g})"
                )
            if not reported:
                log.warning("no room in %s: waiting for other readers; %s", self.folder, MEND)
                reported = True
            attempts.wait(ROOM_POLL_SECONDS)
            attempts.check()

    def _make_room(self, needed: int) -> int:
        """Evict unlocked files, least recently used first; returns the bytes still missing."""
        entries = [*self._entries(self._objects), *self._entries(self._incoming)]
        missing = sum(entry.bytes for entry in entries) + needed - self.limit
        for entry in sorted(entries):
            if missing <= 0:
                break
            if _remove_unused(entry.path):
                missing -= entry.bytes
        return missing

    def _entries(self, folder: Path) -> Iterator[_Entry]:
        with os.scandir(folder) as found:
            for entry in found:
                status = entry.stat()
                reserved = entry.name.partition(".")[2]
                size = int(reserved) if reserved.isdecimal() else 0
                yield _Entry(status.st_atime_ns, max(status.st_size, size), folder / entry.name)

    @contextmanager
    def _room(self) -> Iterator[None]:
        file = os.open(self.folder / "room", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def _remove_unused(path: Path) -> bool:
    """Remove a file unless a process has locked it; returns whether it was removed."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
