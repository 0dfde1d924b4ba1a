"""One folder, one writer."""

import errno
import fcntl
import json
import os
import socket
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from trainer.errors import RecipeError
from trainer.recovery.torchrun import under_torchrun

_HELD = (errno.EACCES, errno.EAGAIN)
_POLL_SECONDS = 0.1
_AGAIN_SECONDS = 20.0
"""How long a rank that torchrun starts waits for the run's lock, which a rank of the start before,
on a node that torchrun has given up, may still hold."""


class FolderLock:
    """A context that holds a file in a folder, with the holder's host and process id written in it.

    `kind`: what a user calls the folder, `other`: what to do where another process writes there;
    `name`: the file's, another one for each part of the folder that has a writer of its own.
    A POSIX record lock: it belongs to the process alone, so that it dies with it even where forked
    data workers live on for a moment (flock would be theirs too), and it works over NFS. Take it
    on one rank. A second process gets a RecipeError that names the holder, after `patience` seconds
    in which that might have ended.
    """

    def __init__(
        self, folder: Path, kind: str, other: str, name: str = ".lock", patience: float = 0.0
    ) -> None:
        self._patience = patience
        self._path = Path(folder) / name
        self._folder, self._named, self._other = Path(folder), f"{kind} {folder}", other
        self._descriptor: int | None = None

    def __enter__(self) -> "FolderLock":
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RecipeError(
                f"{self._named} cannot be written: {error.strerror}; {self._other}"
            ) from None
        try:
            self._take(descriptor)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in _HELD:
                line = f"{self._named} is being written by {holder}; stop it, or {self._other}"
            else:
                line = f"{self._named} cannot be locked: {error.strerror}; {self._other}"
            raise RecipeError(line) from None
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, holder.encode())
        except OSError as error:
            os.close(descriptor)
            raise RecipeError(
                f"{self._named} cannot be written: {error.strerror}; free some space, or "
                f"{self._other}"
            ) from None
        self._descriptor = descriptor
        return self

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _HELD or time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


LAUNCHER = "LYCEUM_LAUNCHER"
"""Environment variable: the id of the process that started this rank and holds the run's lock."""


class RunLock(FolderLock):
    """The lock of a run's directory."""

    def __init__(self, run_dir: Path) -> None:
        patience = _AGAIN_SECONDS if under_torchrun() else 0.0
        super().__init__(run_dir, "run", "choose another run", patience=patience)


def run_lock(run_dir: Path) -> AbstractContextManager[object]:
    """The run's lock for the rank that reports, unless the process that started it holds it."""
    return nullcontext() if LAUNCHER in os.environ else RunLock(run_dir)


class LockedFolder:
    """A folder that was locked when this was made, to be looked at again."""

    def __init__(self, folder: Path, name: str = ".lock") -> None:
        self._folder, self._name = Path(folder), name
        self._known = self._look()

    def _look(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        return _identity(self._folder), _identity(self._folder / self._name)

    def of_nobody_else(self) -> bool:
        """Whether something may still be written there: no other process is seen to have it."""
        folder, lock = self._look()
        return folder == self._known[0] and lock in (self._known[1], None)

    def fault(self) -> str | None:
        """Why the folder is no longer the locked one, None where it is: two looks at the disk."""
        folder, lock = self._look()
        if (folder, lock) == self._known:
            return None
        if folder is None:
            return "was removed or renamed"
        if folder != self._known[0]:
            return "is another folder than at the start"
        if lock is None:
            return f"lost its lock file, {self._name}: another process may write there"
        return f"has another lock file, {self._name}: another process writes there"


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None where the path leads nowhere."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.read(descriptor, 4096))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process"
