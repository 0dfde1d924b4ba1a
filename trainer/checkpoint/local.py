"""Each machine's own disk, on which a checkpoint lies before it is in the run directory.

All ranks write their parts there first, under LOCAL/NAME-OF-RUN-ID/checkpoints, with the manifest
beside those of rank 0. From then on the state is safe from the processes' end: what they do not
bring to the run directory, as it is slow or full, the next start brings there, if it meets the same
machines. Nothing is read from there otherwise, and of each run one checkpoint lies there
at most, two while the second is written.
"""

import logging
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from trainer.checkpoint.copies import run_id
from trainer.checkpoint.files import copy_verified, write_bytes
from trainer.checkpoint.folders import latest_checkpoint, partial_name, step_of_partial
from trainer.checkpoint.format import AVERAGE, MANIFEST, folder_name, manifest_bytes, read_manifest
from trainer.checkpoint.write import SaveTogether, begin, publish
from trainer.errors import CheckpointError, RecipeError
from trainer.files import sync_folder
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.recipe import Recipe

_log = logging.getLogger(__name__)


def local_folder(recipe: Recipe, ranks: Ranks) -> Path | None:
    """Where this machine keeps what the run saves; None where the recipe names no local disk.

    Collective. Raises RecipeError, on all ranks alike, where one cannot write there.
    """
    local, run = recipe.checkpoint.local, Path(recipe.run)
    if local is None:
        return None
    name, known = on_first_rank(ranks, lambda: [run.resolve().name, _known(run)])
    root = next(iter(Path(local).glob(f"*-{known}")), Path(local) / f"{name}-{known}")
    failure = ranks.first_failure(_fault(root, run))
    if failure is not None:
        raise RecipeError(f"checkpoint.local: {failure[1]}")
    if ranks.rank == 0 and root.stat().st_dev == run.stat().st_dev:
        _log.warning(
            "checkpoint.local: %s is on the disk of the run itself: each checkpoint is written to "
            "it twice; name one on the machine's own disk",
            local,
        )
    return root


def _known(run: Path) -> str:
    """By what a run's folder is found again, also where the run was renamed."""
    try:
        return run_id(run)[:12]
    except OSError as error:
        raise RecipeError(
            f"run {run}: cannot be written: {error.strerror}; free some space, or make it writable"
        ) from None


def _fault(root: Path, run: Path) -> str | None:
    """Why this rank cannot write there; None where it can."""
    if root.resolve().is_relative_to(run.resolve()):
        return f"{root.parent} lies in the run itself; name a folder on the machines' own disks"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".{partial_name(0)}"
        probe.write_bytes(b"lyceum")
        probe.unlink()
    except OSError as error:
        where = f"on {socket.gethostname()}: {error.strerror}"
        return f"{root.parent}: cannot be written {where}; make it writable, or name another"
    return None


def bring_home(
    root: Path, run: Path, ranks: Ranks, resumes: bool, alive: Callable[[], None]
) -> bool:
    """Finish the newest checkpoint that the machines' own disks hold and the run directory does
    not; whether there was one.

    `root`: this machine's, of `local_folder`; `resumes`: whether the run goes on from its newest
    checkpoint: else, and where parts are missing or damaged, it is left out, and that is said.
    `alive` is called now and then. All stays on the disks until `forget`. Collective. Raises
    TrainingError where it cannot be written.
    """
    brought = False
    for inside in (AVERAGE, "."):  # the average first, as in a save
        here, there = root / inside / "checkpoints", run / inside / "checkpoints"
        newest = on_first_rank(ranks, partial(_newest_step, run / inside))
        for found in _left_on_disks(ranks, here):
            if found.step <= newest:
                break
            if not resumes:
                found.leave_out("the run does not go on from it")
            elif found.bring_to(there, alive):
                brought = inside == "."
                break
    return brought


def forget(root: Path) -> None:
    """Remove what lies on this machine's own disk: the run goes on from what is at home."""
    for inside in (AVERAGE, "."):
        shutil.rmtree(root / inside / "checkpoints", ignore_errors=True)


def tidy(root: Path) -> None:
    """Remove a run's folders on this machine's own disk that hold nothing."""
    for folder in (root / AVERAGE / "checkpoints", root / AVERAGE, root / "checkpoints", root):
        with suppress(OSError):  # it is not there, or holds what is to come home
            folder.rmdir()


def _newest_step(run: Path) -> int:
    newest = latest_checkpoint(run)
    return -1 if newest is None else int(newest.name.removeprefix("step-"))


def _left_on_disks(ranks: Ranks, here: Path) -> "list[_LeftOnDisks]":
    """The checkpoints that the machines' own disks hold, in parts, the newest first; collective."""
    listed = ranks.all_gather(_files_by_folder(here))
    described = {name for folders in listed for name, files in folders.items() if MANIFEST in files}
    steps = sorted(((step_of_partial(name) or 0, name) for name in described), reverse=True)
    return [
        _LeftOnDisks(ranks, here / name, step, [set(one.get(name, ())) for one in listed])
        for step, name in steps
    ]


class _LeftOnDisks:
    """A checkpoint on the machines' own disks, in the folder `staged` on each; collective.

    `step`: its step; `held`: which of its files each rank's machine has.
    """

    def __init__(self, ranks: Ranks, staged: Path, step: int, held: list[set[str]]) -> None:
        self._ranks, self._staged, self.step, self._held = ranks, staged, step, held

    def leave_out(self, reason: str) -> None:
        """Say that it is not taken."""
        if self._ranks.rank == 0:
            _log.warning(
                "%s lay on the machines' own disks alone, and is left out: %s",
                *(folder_name(self.step), reason),
            )

    def bring_to(self, there: Path, alive: Callable[[], None]) -> bool:
        """Make it a checkpoint of the run; each file is copied by a rank whose machine has it.

        Returns whether it could be: parts that are missing or damaged are said.
        """
        ranks, staged = self._ranks, self._staged
        final = there / folder_name(self.step)
        copied = final.with_name(ranks.share(partial_name(self.step)))
        first, attempt = ranks.rank == 0, SaveTogether(ranks, copied, final, staged=True)

        def describe() -> None:
            if self._copies(MANIFEST):
                write_bytes(copied / MANIFEST, manifest_bytes(read_manifest(staged)))

        def copy() -> None:
            for number, (name, stored) in enumerate(read_manifest(copied).files.items()):
                if self._copies(name, number):
                    (copied / name).parent.mkdir(parents=True, exist_ok=True)
                    copy_verified(staged / name, copied / name, stored, alive)
            sync_folder(copied)

        try:
            with ExitStack() as held:
                attempt(lambda: begin(copied, held) if first else None)
                attempt(describe)
                attempt(copy)
                attempt(lambda: publish(copied, final, read_manifest(copied)) if first else None)
        except CheckpointError as error:
            self.leave_out(str(error).partition(";")[0])
            return False
        if first:
            _log.warning(
                "%s lay on the machines' own disks alone, and is in %s now", final.name, there
            )
        return True

    def _copies(self, name: str, number: int = 0) -> bool:
        """Whether this rank is the one to copy a file: they take turns, of those that have it.

        Raises CheckpointError where none has it.
        """
        holders = [rank for rank, names in enumerate(self._held) if name in names]
        if not holders:
            raise CheckpointError(f"{name} is on none of the machines that there are now")
        return holders[number % len(holders)] == self._ranks.rank


def _files_by_folder(here: Path) -> dict[str, list[str]]:
    """The files that lie in each temporary folder, relative to it."""
    return {
        folder.name: [
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        ]
        for folder in (here.iterdir() if here.is_dir() else ())
        if step_of_partial(folder.name) is not None
    }
