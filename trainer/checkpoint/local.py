"""Each machine's own disk, on which a checkpoint lies before it is in the run directory.

All ranks write their parts there first, under LOCAL/NAME-OF-RUN-ID/checkpoints, with the manifest
beside those of rank 0. From then on the state is safe from the processes' end: what they do not
bring to the run directory, as it is slow, full or away, the next start brings there, if it meets
the same machines. Nothing is read from there otherwise, and of each run one checkpoint lies there
at most, two while the second is written.
"""

import logging
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from trainer.checkpoint.copies import run_id
from trainer.checkpoint.files import copy_verified, write_bytes
from trainer.checkpoint.folders import latest_checkpoint, partial_name, step_of_partial
from trainer.checkpoint.format import AVERAGE, MANIFEST, folder_name, read_manifest
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
    name = on_first_rank(ranks, lambda: f"{run.resolve().name}-{run_id(run)[:12]}")
    root = Path(local) / name
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
) -> None:
    """Finish the checkpoint that the machines' own disks hold and the run directory does not.

    `root`: this machine's, of `local_folder`; `resumes`: whether the run goes on from its newest
    checkpoint: else, and where parts are missing or damaged, it is left out, and that is said.
    Nothing stays on the disks. `alive` is called now and then. Collective. Raises TrainingError
    where it cannot be written, and all stays.
    """
    for inside in (AVERAGE, "."):  # the average first, as in a save
        here, there = root / inside / "checkpoints", run / inside / "checkpoints"
        found = _LeftOnDisks(ranks, here)
        step, newest = found.step, on_first_rank(ranks, partial(_newest_step, run / inside))
        if resumes and step is not None and step > newest:
            found.bring_to(there, alive)
        elif step is not None and step > newest:
            found.leave_out("the run does not go on from it")
    forget(root)


def forget(root: Path) -> None:
    """Remove what lies on this machine's own disk: the run goes on from an earlier step."""
    for inside in (AVERAGE, "."):
        shutil.rmtree(root / inside / "checkpoints", ignore_errors=True)


def _newest_step(run: Path) -> int:
    newest = latest_checkpoint(run)
    return -1 if newest is None else int(newest.name.removeprefix("step-"))


class _LeftOnDisks:
    """The newest checkpoint on the machines' own disks, in parts; collective throughout.

    `step`: its step, None where there is none.
    """

    def __init__(self, ranks: Ranks, here: Path) -> None:
        self._ranks, self._here = ranks, here
        listed = ranks.all_gather(_files_by_folder(here))
        described = [
            (step_of_partial(name), name)
            for folders in listed
            for name, files in folders.items()
            if MANIFEST in files
        ]
        newest = max(described, default=(None, ""))
        self.step: int | None = newest[0]
        self._name: str = newest[1]
        self._held = [set(folders.get(self._name, ())) for folders in listed]

    def leave_out(self, reason: str) -> None:
        """Say that it is not taken."""
        if self._ranks.rank == 0:
            _log.warning(
                "%s lay on the machines' own disks alone, and is left out: %s",
                *(folder_name(self.step or 0), reason),
            )

    def bring_to(self, there: Path, alive: Callable[[], None]) -> None:
        """Make it a checkpoint of the run; each file is copied by a rank whose machine has it."""
        ranks, staged = self._ranks, self._here / self._name
        final = there / folder_name(self.step or 0)
        copied = final.with_name(ranks.share(partial_name(self.step or 0)))
        first, attempt = ranks.rank == 0, SaveTogether(ranks, copied, final, staged)

        def describe() -> None:
            if self._copies(MANIFEST):
                write_bytes(copied / MANIFEST, (staged / MANIFEST).read_bytes())

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
            return
        if first:
            _log.warning(
                "%s lay on the machines' own disks alone, and is in %s now", final.name, there
            )

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
