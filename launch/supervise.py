"""A run from its start to its last word: its ranks, watched, and begun again where that may be."""

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.overseer import RunOverseer
from launch.ranks import INTERRUPTED, run_ranks
from trainer.checkpoint import latest_checkpoint
from trainer.errors import LyceumError, RankFailed, RecipeError, StopRequested, TrainingError, shown
from trainer.recipe import Recipe
from trainer.recovery.lock import LockedFolder, RunLock
from trainer.recovery.status_file import (
    left_without_a_word,
    read_status,
    recorded_step,
    status_of,
    write_status,
)

_log = logging.getLogger(__name__)

LOG = "launcher.log"
"""In RUN/logs: what the launcher said of its ranks."""


def supervise(recipe: Recipe, ranks: int, device: str, worker: Callable[[Recipe], int]) -> int:
    """Train on local ranks to the run's end; returns 0, or the exit code of an end without a line.

    `worker`: what a forked rank does. This process holds the run's lock, starts ranks again as
    `recovery.restarts` allows, and writes the last status.json. Raises what ended the run.
    """
    run = Path(recipe.run)
    with RunLock(run), _logged(run):
        place = LockedFolder(run)
        if left := left_without_a_word(run):
            _log.warning("%s; it goes on", left)
        began, restarts = time.time(), 0
        with tempfile.TemporaryDirectory(prefix="lyceum-run-") as shared:
            while True:
                overseer = RunOverseer(recipe.recovery, Path(shared), run / "logs", restarts)
                try:
                    code = _run(recipe, ranks, device, worker, overseer, place)
                except RankFailed as error:
                    _append_trace(run, error)
                    if restarts >= recipe.recovery.restarts or place.fault():
                        _last_word(recipe, place, restarts, error)
                        raise
                    restarts += 1
                    _log.warning(
                        "%s: restart %d of %d", shown(error), restarts, recipe.recovery.restarts
                    )
                    recipe = _going_on(recipe, began)
                except BaseException as error:
                    _last_word(recipe, place, restarts, error)
                    raise
                else:
                    _last_word(recipe, place, restarts, code)
                    return code


def _run(
    recipe: Recipe,
    ranks: int,
    device: str,
    worker: Callable[[Recipe], int],
    overseer: RunOverseer,
    place: LockedFolder,
) -> int:
    """One start of the ranks; raises TrainingError where its folder was gone at the end."""
    command = [sys.executable, "-m", "trainer", *sys.argv[1:], f"resume={recipe.resume}"]
    code = run_ranks(lambda: worker(recipe), ranks, device, command, overseer=overseer)
    if code == 0 and (fault := place.fault()):
        raise TrainingError(f"run {recipe.run} {fault}; what it saved last is not there")
    return code


def _going_on(recipe: Recipe, began: float) -> Recipe:
    """The recipe of a start behind the first: from what this run saved since it `began`.

    Where it has saved nothing yet, from where it was to begin: a checkpoint that `resume` names may
    have newer ones beside it, of a course that was given up.
    """
    newest = latest_checkpoint(Path(recipe.run))
    if newest is None or recipe.resume == "auto" or newest.stat().st_mtime < began:
        return recipe
    return recipe.model_copy(update={"resume": str(newest)})


def _last_word(
    recipe: Recipe, place: LockedFolder, restarts: int, end: BaseException | int
) -> None:
    """Write how the run ended, unless that is only that it was not to begin."""
    run, error = Path(recipe.run), None
    if not place.of_nobody_else() or (isinstance(end, RecipeError) and not _has_begun(run)):
        return
    step = recorded_step(run)
    if isinstance(end, int):
        state, code = ("done", 0) if end == 0 else ("failed", end)
        ended = f"a rank ended with exit code {end}"
        reason = f"step {step} of {recipe.steps}" if end == 0 else ended
        if end == INTERRUPTED:
            state, reason = "stopped", "CTRL-C twice: ended at once"
    elif isinstance(end, LyceumError):
        stopped = isinstance(end, StopRequested)
        state, code = "stopped" if stopped else "failed", end.exit_code
        reason, error = shown(end), None if stopped else type(end).__name__
    elif isinstance(end, KeyboardInterrupt):
        state, code, reason = "stopped", INTERRUPTED, "CTRL-C twice: ended at once"
    else:
        state, code, reason, error = "failed", 1, f"{type(end).__name__}: {end}", type(end).__name__
    signal = end.signal if isinstance(end, LyceumError) else None
    rank = end.rank if isinstance(end, LyceumError) and state == "failed" else None
    newest = latest_checkpoint(run)
    status = status_of(
        state,
        step,
        exit_code=code,
        reason=reason,
        error=error,
        rank=rank,
        signal="SIGINT" if code == INTERRUPTED else signal,
        checkpoint=newest.name if newest else None,
        restarts=restarts,
    )
    try:
        write_status(run, status)
    except TrainingError as fault:
        _log.warning("%s", fault)


def _has_begun(run: Path) -> bool:
    """Whether the ranks said that they run before they ended."""
    status = read_status(run)
    return status is not None and status.get("state") == "running"


def _append_trace(run: Path, error: LyceumError) -> None:
    """Keep the stack trace of a failing rank at the end of its log."""
    notes = getattr(error, "__notes__", [])
    if not notes or error.rank is None:
        return
    path = run / "logs" / f"rank-{error.rank}.log"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(notes) + "\n")
    except OSError as fault:
        _log.warning("%s cannot be written: %s", path, fault.strerror)


@contextmanager
def _logged(run: Path) -> Iterator[None]:
    """What the launcher says in this block stands in RUN/logs/launcher.log too."""
    folder = run / "logs"
    folder.mkdir(exist_ok=True)
    handler = logging.FileHandler(folder / LOG, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    logger = logging.getLogger("launch")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
