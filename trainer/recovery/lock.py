"""One run directory, one writer."""

import errno
import fcntl
import json
import os
import socket
from pathlib import Path

from trainer.errors import RecipeError

_NAME = ".lock"


class RunLock:
    """A context that holds RUN/.lock, with the holder's host and process id written in it.

    A POSIX record lock: it belongs to the process alone, so that it dies with it even where forked
    data workers live on for a moment (flock would be theirs too), and it works over NFS. Take it
    on one rank. A second process gets a RecipeError that names the holder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = Path(run_dir)
        self._descriptor: int | None = None

    def __enter__(self) -> "RunLock":
        path = self._run_dir / _NAME
        try:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RecipeError(
                f"run {self._run_dir} cannot be written: {error.strerror}; choose another run"
            ) from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                line = f"run {self._run_dir} is being written by {holder}; stop it or change run"
            else:
                line = f"run {self._run_dir} cannot be locked: {error.strerror}; change run"
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


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.read(descriptor, 4096))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process"
