"""The checkpoints of a run: which there are, which is the newest good one, which may go."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint.format import FOLDER_NAME, MANIFEST
from trainer.checkpoint.partial import remove_atomically, remove_leftovers
from trainer.checkpoint.verify import complete_manifest
from trainer.errors import CheckpointError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedCheckpoint:
    """A checkpoint of a run as a listing shows it, judged by its manifest and its files' sizes.

    `saved_seconds`: when, in seconds of the Unix epoch. `problem`: why it can't be loaded, None
    where it can.
    """

    path: Path
    step: int
    bytes: int
    saved_seconds: float
    problem: str | None


def list_checkpoints(run_dir: Path) -> list[ListedCheckpoint]:
    """The checkpoints of a run by step, damaged ones with their problem; no temporary folders."""
    return [_listed(path, step) for step, path in _by_step(run_dir)]


def latest_checkpoint(run_dir: Path) -> Path | None:
    """The newest good checkpoint of a run (complete, all sizes right), None without one."""
    for _, path in reversed(_by_step(run_dir)):
        if _problem(path) is None:
            return path
    return None


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means: a checkpoint folder, or a run's newest good one.

    Raises CheckpointError where there is none, or the folder named is not complete.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path} does not exist; name a checkpoint or a run")
    if (path / MANIFEST).exists() or not (path / "checkpoints").is_dir():
        complete_manifest(path)
        return path
    latest = latest_checkpoint(path)
    if latest is None:
        raise CheckpointError(f"run {path} has no complete checkpoint; train it first")
    return latest


def rotate(run_dir: Path, keep: int, protect: Collection[Path] = ()) -> list[Path]:
    """Keep the newest `keep` good checkpoints (0: all) and those in `protect`; the ones removed.

    Damaged ones older than the newest good one go too; leftovers of interrupted saves and removals
    always. The newest good one is never removed. Call it on one rank.
    """
    assert keep >= 0, "keep counts checkpoints"
    folder = Path(run_dir) / "checkpoints"
    for name in remove_leftovers(folder):
        _log.info("removed %s, left by an interrupted save", folder / name)
    listed = list_checkpoints(run_dir)
    good = [c for c in listed if c.problem is None]
    if keep == 0 or not good:
        return []
    kept = {c.path.resolve() for c in good[-keep:]} | {Path(p).resolve() for p in protect}
    removed = [c.path for c in listed if c.step < good[-1].step and c.path.resolve() not in kept]
    return [path for path in removed if _remove(path)]


def _remove(path: Path) -> bool:
    try:
        remove_atomically(path)
    except OSError as error:  # no reason to end a run whose checkpoints are good
        _log.warning("%s could not be removed: %s", path, error.strerror)
        return False
    return True


def _by_step(run_dir: Path) -> list[tuple[int, Path]]:
    folder = Path(run_dir) / "checkpoints"
    if not folder.is_dir():
        return []
    named = ((FOLDER_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match)


def _problem(path: Path) -> str | None:
    try:
        complete_manifest(path)
    except CheckpointError as error:
        return str(error)
    return None


def _listed(path: Path, step: int) -> ListedCheckpoint:
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    saved = max((file.st_mtime for file in files), default=path.stat().st_mtime)
    size = sum(file.st_size for file in files)
    return ListedCheckpoint(path, step, size, saved, _problem(path))
