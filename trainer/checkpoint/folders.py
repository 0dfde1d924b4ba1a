"""The checkpoint folders of a run: temporary ones while saving, leftovers, listing, rotation."""

import fcntl
import logging
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint.files import complete_manifest, verify_checkpoint
from trainer.checkpoint.format import BEST, FOLDER_NAME, MANIFEST, folder_name
from trainer.checkpoint.marks import (
    course_given_up,
    found_damage,
    is_settled,
    mark_chosen,
    mark_given_up,
    remove_marks,
)
from trainer.errors import CheckpointError
from trainer.hub.foreign import checkpoint_of

_MARK = ".partial-"
_REMOVED = ".removed-"
_DAMAGED = ".damaged-"
_LOCK = "writing.lock"
_GRACE_SECONDS = 60.0


def partial_name(step: int) -> str:
    """A fresh temporary name for a step's checkpoint, which listings ignore."""
    return f"{folder_name(step)}{_MARK}{uuid.uuid4().hex[:12]}"


@contextmanager
def being_written(partial: Path) -> Iterator[None]:
    """Hold a file lock in the folder for as long as this process writes it.

    A lock dies with its process, so a folder whose lock is free is a leftover. Where the file
    system has no locks the folder is judged by its age alone.
    """
    partial.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _try_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def finish(partial: Path) -> None:
    """Remove the lock file: the folder is about to get its final name."""
    (partial / _LOCK).unlink()


def set_aside(folder: Path) -> Path | None:
    """Rename a checkpoint to a hidden name, and return that path; None if there is none."""
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


def remove_all_but(partial: Path) -> None:
    """Remove the temporary folders beside one that holds what they were to hold."""
    for other in partial.parent.glob(f"*{_MARK}*"):
        if other != partial:
            shutil.rmtree(other, ignore_errors=True)


def step_of_partial(name: str) -> int | None:
    """The step of a temporary folder, by its name; None where it is none."""
    named = FOLDER_NAME.fullmatch(name.partition(_MARK)[0])
    return int(named[1]) if named and _MARK in name else None


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


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedCheckpoint:
    """A checkpoint of a run as listed, checked by its manifest and its files' sizes only.

    `bytes`: of all its files; `saved_seconds`: when it was saved, in seconds since the Unix epoch;
    `problem`: why it can't be loaded, None where it can; `best`: whether checkpoints/best names it;
    `settled`: whether it counts as good, as the steps behind it were (trainer.checkpoint.marks).
    """

    path: Path
    step: int
    bytes: int
    saved_seconds: float
    problem: str | None
    best: bool = False
    settled: bool = True


def list_checkpoints(run_dir: Path) -> list[ListedCheckpoint]:
    """The checkpoints of a run in order of step, damaged ones included; no temporary folders.

    One that another process removes meanwhile is left out.
    """
    best = best_checkpoint(run_dir)
    listed = [_listed(path, step, path == best) for step, path in _by_step(run_dir)]
    return [one for one in listed if one.path.exists()]


def checkpoints_to_resume(run_dir: Path) -> list[Path]:
    """A run's checkpoints in the order in which a resume tries them: settled ones first, the newest
    first; damaged ones are among them, those of a course that was given up are not.
    """
    newest_first = [path for _, path in reversed(_by_step(run_dir)) if not course_given_up(path)]
    return sorted(newest_first, key=lambda path: not is_settled(path))


def latest_checkpoint(run_dir: Path) -> Path | None:
    """The newest good checkpoint of a run: complete, all sizes right, and settled.

    Where none has settled yet, the newest complete one; None without one.
    """
    while True:
        listed = checkpoints_to_resume(run_dir)
        for path in listed:
            if _problem(path) is None:
                return path
        # Training rotates one away when it has saved a newer one: that one is then to be found.
        if not any(_is_gone(path) for path in listed):
            return None


def best_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint that a run's checkpoints/best names, whether it is there or not."""
    return _linked(Path(run_dir) / "checkpoints" / BEST)


def _linked(path: Path) -> Path | None:
    """The checkpoint beside it that `path` is a link to; None where it is no such link."""
    try:
        target = os.readlink(path)
    except OSError:
        return None
    return path.parent / target if FOLDER_NAME.fullmatch(target) else None


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint at `path`: that folder itself, or the newest good one of a run.

    Of checkpoints/best it is the folder that the link names now, so that who records it is not led
    to another one later. Raises CheckpointError where there is none, or the folder is not complete.
    """
    path = Path(path)
    named = _linked(path)
    if named is not None and not named.is_dir():
        raise CheckpointError(f"checkpoint {path} is a link to {named.name}, which is gone")
    path = named or path
    if not path.is_dir():
        other = checkpoint_of(path) or "does not exist; name a checkpoint or a run"
        raise CheckpointError(f"checkpoint {path} {other}")
    if (path / MANIFEST).exists() or not (path / "checkpoints").is_dir():
        complete_manifest(path)
        return path
    latest = latest_checkpoint(path)
    if latest is not None:
        return latest
    if listed := list_checkpoints(path):
        fault = str(listed[-1].problem).partition(";")[0]
        raise CheckpointError(
            f"run {path} has no complete checkpoint: {fault}; put it back, or train it anew"
        )
    raise CheckpointError(f"run {path} has no complete checkpoint; train it first")


def say_what_is_passed_over(run: Path, chosen: Path) -> None:
    """Say why newer checkpoints of a run than the chosen one are not read.

    Training beside it may add and remove checkpoints meanwhile: one that is gone is not damaged.
    """
    if reasons := passed_over(run, chosen):
        _log.warning("%s: %s is read, as %s", run, chosen.name, reasons[-1])


def passed_over(run: Path, chosen: Path) -> list[str]:
    """Why each newer checkpoint of a run than the chosen one is not its newest good one."""
    named = FOLDER_NAME.fullmatch(chosen.name)
    reasons = []
    for step, path in _by_step(run):
        if not named or step <= int(named[1]):
            continue
        fault = _problem(path)
        if not fault and not is_settled(path):
            fault = f"{path.name} has not settled: the steps behind it were not seen"
        if fault and not _is_gone(path):
            reasons.append(fault.partition(";")[0])
    return reasons


def damaged_behind(run: Path, chosen: Path) -> list[str]:
    """Why each newer checkpoint of a run than the chosen one that is damaged is so."""
    named = FOLDER_NAME.fullmatch(chosen.name)
    newer = [path for step, path in _by_step(run) if named and step > int(named[1])]
    faults = [_problem(path) for path in newer if not course_given_up(path)]
    return [fault.partition(";")[0] for fault in faults if fault]


def rotate(
    run_dir: Path, keep: int, protect: Collection[Path] = (), keep_every: int = 0
) -> list[Path]:
    """Remove all but the newest `keep` good checkpoints (0: keep all), the best, and `protect`.

    Milestones stay too: those of every `keep_every`th step (0: there are none). So do the newest
    that has settled, and damaged ones, which tell what happened; leftovers of interrupted saves and
    removals always go. Returns the paths removed. Call it on one rank.
    """
    assert keep >= 0, "keep counts checkpoints"
    folder = Path(run_dir) / "checkpoints"
    for name in remove_leftovers(folder):
        _log.info("removed %s, left by an interrupted save", folder / name)
    listed = list_checkpoints(run_dir)
    good = [c for c in listed if c.problem is None]
    if keep == 0 or not good:
        return []
    chosen = good[-keep:] + [c for c in good if c.settled][-1:] + [c for c in listed if c.best]
    chosen += [c for c in good if keep_every and c.step % keep_every == 0]
    kept = {path.resolve() for path in (*(c.path for c in chosen), *map(Path, protect))}
    removed = [c.path for c in good if c.step < good[-1].step and c.path.resolve() not in kept]
    return [path for path in removed if _remove(path)]


def give_up_behind(run_dir: Path, step: int) -> list[Path]:
    """Mark the checkpoints behind a step from which a run goes on again: another course begins.

    Returns those that would have been taken for the run's newest good ones; raises OSError.
    """
    behind = [path for number, path in _by_step(run_dir) if number > step]
    given_up = [path for path in behind if _problem(path) is None and is_settled(path)]
    for path in given_up:
        mark_given_up(path, step)
    return given_up


def keep_as_evidence(checkpoint: Path) -> Path | None:
    """Rename a damaged checkpoint that another is about to replace; None where it is sound.

    It keeps its step in its name, and is no checkpoint any more: step-00000100.damaged-1f3a.
    """
    if not checkpoint.is_dir() or not (found_damage(checkpoint) or verify_checkpoint(checkpoint)):
        return None
    aside = checkpoint.with_name(f"{checkpoint.name}{_DAMAGED}{uuid.uuid4().hex[:4]}")
    os.rename(checkpoint, aside)
    mark_chosen(checkpoint)  # the note is of what has another name now
    _log.warning("%s is damaged, and stays as %s", checkpoint, aside.name)
    return aside


def _remove(path: Path) -> bool:
    try:
        remove_atomically(path)
        remove_marks(path)
    except OSError as error:  # no reason to end a run whose checkpoints are good
        _log.warning("%s could not be removed: %s", path, error.strerror)
        return False
    return True


def _by_step(run_dir: Path) -> list[tuple[int, Path]]:
    folder = Path(run_dir) / "checkpoints"
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    named = ((FOLDER_NAME.fullmatch(name), folder / name) for name in names)
    return sorted((int(match[1]), path) for match, path in named if match)


def _is_gone(path: Path) -> bool:
    """Whether a path that was listed is there no more; not where it may not be looked at."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _problem(path: Path) -> str | None:
    if known := found_damage(path) or course_given_up(path):
        return known
    try:
        complete_manifest(path)
    except CheckpointError as error:
        return str(error)
    return None


def _listed(path: Path, step: int, best: bool) -> ListedCheckpoint:
    files = _stats(Path(parent, name) for parent, _, names in os.walk(path) for name in names)
    saved = max((file.st_mtime for file in files or _stats([path])), default=0.0)
    size = sum(file.st_size for file in files)
    return ListedCheckpoint(path, step, size, saved, _problem(path), best, is_settled(path))


def _stats(paths: Iterable[Path]) -> list[os.stat_result]:
    """Of those that are still there: another process may rotate checkpoints away."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append(path.stat())
    return found
