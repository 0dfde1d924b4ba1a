"""Checkpoints that are being written: their temporary folders, and which of them nobody writes."""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.checkpoint.format import folder_name

_MARK = ".partial-"
_REMOVED = ".removed-"
_LOCK = "writing.lock"
_GRACE_SECONDS = 60.0


def partial_name(step: int) -> str:
    """A new temporary name for a step's checkpoint; no listing takes it for a checkpoint."""
    return f"{folder_name(step)}{_MARK}{uuid.uuid4().hex[:12]}"


@contextmanager
def being_written(partial: Path) -> Iterator[None]:
    """Hold a file lock in the folder for as long as this process writes it.

    A lock dies with its process, so a folder whose lock is free is a leftover. Where the file
    system has no locks the folder is judged by its age alone.
    """
    partial.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _try_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def finish(partial: Path) -> None:
    """Take the mark away: the folder is about to get its final name."""
    (partial / _LOCK).unlink()


def set_aside(folder: Path) -> Path | None:
    """Rename a checkpoint, if it is there, to a hidden name of no meaning; the new path."""
    hidden = folder.with_name(f"{_REMOVED}{folder.name}-{uuid.uuid4().hex[:12]}")
    try:
        os.rename(folder, hidden)
    except FileNotFoundError:
        return None
    return hidden


def remove_atomically(folder: Path) -> None:
    """Remove a checkpoint so that a crash on the way leaves no half of it under its name."""
    hidden = set_aside(folder)
    if hidden:
        shutil.rmtree(hidden, ignore_errors=True)


def remove_leftovers(folder: Path) -> list[str]:
    """Remove the temporary folders of saves and removals whose process is gone; their names."""
    if not folder.is_dir():
        return []
    leftovers = [
        path
        for path in sorted(folder.iterdir())
        if path.name.startswith(_REMOVED) or (_MARK in path.name and _abandoned(path))
    ]
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in leftovers]


def _abandoned(partial: Path) -> bool:
    try:
        descriptor = os.open(partial / _LOCK, os.O_RDWR)
    except OSError:  # not marked yet, or just renamed: a living one gets its mark at once
        try:
            return time.time() - partial.stat().st_mtime > _GRACE_SECONDS
        except OSError:
            return False
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
