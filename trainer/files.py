"""Atomic file writes, files that a user names, a blocking build lock, and the user's cache folder.

All writers follow one protocol: write under a temporary name in the same folder, fsync the file,
rename, fsync the folder. A process that is killed leaves the old file and a `*.PID.tmp` beside it,
which is never read.
"""

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from trainer.errors import RecipeError

log = logging.getLogger(__name__)

TEMPORARY_SUFFIX = ".tmp"
"""Suffix of the files that a killed process leaves behind."""


class WholeFile:
    """A file being written: `file` takes the bytes, and `commit` gives it its name at `path`.

    `durable=False` skips both fsyncs, for files that are rewritten within seconds or can be rebuilt
    from durable ones: after a power cut the old file may be there, or an empty one. `private`: for
    this user alone, whatever the umask.
    """

    def __init__(self, path: Path, durable: bool = True, private: bool = False) -> None:
        self.path, self._durable = path, durable
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        if private:  # what a killed process left under this name keeps the mode that it has
            self._temporary.unlink(missing_ok=True)
        self.file: BinaryIO = open(self._temporary, "wb", opener=_for_me if private else None)  # noqa: SIM115

    def commit(self) -> None:
        """Flush the file and rename it to `path`; on an OSError the previous file remains."""
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
        """Delete the temporary file; the previous file at `path` remains."""
        try:
            self.file.close()  # what is left in its buffer may find the disk full
        finally:
            self._temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, durable: bool = True, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write in this block; it appears at `path` when the block ends without an error."""
    whole = WholeFile(path, durable, private)
    try:
        yield whole.file
    except BaseException:
        whole.discard()
        raise
    whole.commit()


def write_whole(
    path: Path, content: bytes | str, durable: bool = True, private: bool = False
) -> None:
    """Write a small file, text as UTF-8, whole or not at all; raises OSError (disk full)."""
    with whole_file(path, durable, private) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _for_me(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def umask() -> int:
    """This process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def for_me_alone() -> Iterator[None]:
    """What this process, and what it starts, creates in this block, only this user may read."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


_OF_A_PATH = {
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}


def path_fault(error: BaseException) -> RecipeError | None:
    """What to show where `error` is that a file by its name cannot be used; None for any other."""
    if not isinstance(error, OSError) or error.errno not in _OF_A_PATH or error.filename is None:
        return None
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"
    shown = name if len(name) <= 100 else f"{name[:60]}...{name[-20:]}"
    return RecipeError(f"{shown}: {error.strerror}; give another path")


def is_stdout(path: Path | None) -> bool:
    """Whether a file that a user names means standard output."""
    return str(path) == "-"


def write_output(path: Path | None, content: Any) -> None:
    """Write a file that a user asked for, text as it is and all else as JSON; None: nobody did.

    "-" is printed. Raises RecipeError where it cannot be written.
    """
    if path is not None:
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        if is_stdout(path):
            print(text, end="")
            return
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"{path}: cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that renames in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def build_lock(out: Path) -> Iterator[None]:
    """Hold the lock of the folder `out`; blocks while another process holds it.

    The kernel releases it when a process is killed. Where no lock can be made, as on a disk that
    can only be read, nobody can build either, and what is built already is used without.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    file = _open_lock(out.parent / f".{out.name}.lock")
    if file is None:
        yield
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process builds %s: waiting for it", out)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _open_lock(path: Path) -> int | None:
    """A descriptor of the lock file; None where it is absent and cannot be made."""
    flags = os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | flags)  # another user's, in a common cache
    return None


def cache_folder(name: str) -> Path:
    """The folder `name` of the user's cache: below LYCEUM_CACHE, or else ~/.cache/lyceum."""
    return Path(os.environ.get("LYCEUM_CACHE") or "~/.cache/lyceum").expanduser() / name
