"""One folder, one writer."""

import errno
import fcntl
import json
import os
import socket
from pathlib import Path

from trainer.errors import RecipeError


class FolderLock:
    """A context that holds a file in a folder, with the holder's host and process id written in it.

    `kind`: what a user calls the folder, `other`: what to do where another process writes there;
    `name`: the file's, another one for each part of the folder that has a writer of its own.
    A POSIX record lock: it belongs to the process alone, so that it dies with it even where forked
    data workers live on for a moment (flock would be theirs too), and it works over NFS. Take it
    on one rank. A second process gets a RecipeError that names the holder.
    """

    def __init__(self, folder: Path, kind: str, other: str, name: str = ".lock") -> None:
        self._path = Path(folder) / name
        self._folder, self._named, self._other = Path(folder), f"{kind} {folder}", other
        self._descriptor: int | None = None

    def __enter__(self) -> "FolderLock":
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RecipeError(
                f"{self._named} cannot be written: {error.strerror}; {self._other}"
            ) from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                line = f"{self._named} is being written by {holder}; stop it, or {self._other}"
            else:
                line = f"{self._named} cannot be locked: {error.strerror}; {self._other}"
            raise RecipeError(line) from None
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        )
        self._descriptor = descriptor
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


class RunLock(FolderLock):
    """The lock of a run's directory."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, "run", "choose another run")


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.read(descriptor, 4096))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process"
