"""A run from its start to its last word: its ranks, watched, and begun again where that may be."""

import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from launch.overseer import RunOverseer
from launch.places import RankPlaces
from launch.ranks import INTERRUPTED, collecting_signals, run_ranks
from trainer.addresses import PlainFormatter
from trainer.checkpoint import latest_checkpoint, list_checkpoints
from trainer.errors import (
    DeviceMissing,
    LyceumError,
    RankFailed,
    RecipeError,
    StopRequested,
    TrainingError,
    shown,
)
from trainer.recipe import Recipe
from trainer.recovery.lock import LockedFolder, RunLock
from trainer.recovery.logs import QuietFile
from trainer.recovery.status_file import (
    carried_on,
    left_without_a_word,
    read_status,
    recorded_step,
    status_of,
    write_status,
)

_log = logging.getLogger(__name__)

LOG = "launcher.log"
"""In RUN/logs: what the launcher said of its ranks."""


def supervise(
    recipe: Recipe,
    ranks: int,
    device: str,
    worker: Callable[[Recipe], int],
    signals: list[int] | None = None,
    began: float | None = None,
) -> int:
    """Train on local ranks to the run's end; returns 0, or the exit code of an end without a line.

    `worker`: what a forked rank does; `signals`: those that ask for a stop, as they come
    (`collecting_signals`); `began`: when the command did, by the monotonic clock. This process
    holds the run's lock, starts ranks again as `recovery.restarts` allows, and writes the last
    status.json. Raises what ended the run.
    """
    run = Path(recipe.run)
    with (
        nullcontext(signals) if signals is not None else collecting_signals() as signals,
        RunLock(run),
        _logged(run),
        tempfile.TemporaryDirectory(prefix="lyceum-run-") as shared,
    ):
        assert signals is not None
        place, before, restarts = LockedFolder(run), _saved(run), 0
        places = RankPlaces(recipe, ranks, device)
        if left := left_without_a_word(run):
            _log.warning("%s; it goes on", left)
        while True:
            overseer = RunOverseer(
                recipe.recovery, Path(shared), run / "logs", restarts, began, places
            )
            try:
                code = _run(recipe, len(places.used), device, worker, overseer, place, signals)
            except (RankFailed, DeviceMissing) as error:
                _append_trace(run, error)
                end = _ends_by(error, recipe, place, restarts, signals) or places.too_few(
                    error, overseer.stepped(error.rank), recipe.recovery.restarts - restarts - 1
                )
                if end is not None:
                    _last_word(recipe, place, restarts, end)
                    raise end from error
                restarts += 1
                _log.warning(
                    "%s: restart %d of %d", shown(error), restarts, recipe.recovery.restarts
                )
                places.tell()
                recipe = _going_on(recipe, before)
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
    signals: list[int],
) -> int:
    """One start of the ranks; raises TrainingError where its folder was gone at the end."""
    again = [] if overseer.restarts == 0 else [f"resume={recipe.resume}"]
    command = [sys.executable, "-m", "trainer", *sys.argv[1:], *again]
    rank = partial(worker, recipe)
    code = run_ranks(rank, ranks, device, command, overseer=overseer, signals=signals)
    if code == 0 and (fault := place.fault()):
        raise TrainingError(f"run {recipe.run} {fault}; what it saved last is not there")
    return code


def _ends_by(
    error: RankFailed | DeviceMissing,
    recipe: Recipe,
    place: LockedFolder,
    restarts: int,
    signals: list[int],
) -> LyceumError | None:
    """What the run ends by, where it is not begun again behind a rank's failure."""
    if fault := place.fault():
        return TrainingError(f"run {recipe.run} {fault}; and {error}")
    elastic = recipe.recovery.minimum_replicas is not None
    missing = isinstance(error, DeviceMissing) and (restarts == 0 or not elastic)
    if missing or restarts >= recipe.recovery.restarts:
        return error
    if not signals:
        return None
    name = signal.Signals(signals[0]).name
    stopped = StopRequested(f"{name} came, and the run is not begun again behind this: {error}")
    stopped.signal, stopped.rank = name, error.rank
    return stopped


def _saved(run: Path) -> set[tuple[str, int]]:
    """The checkpoints of a run, and which of their names."""
    return {(one.path.name, one.path.stat().st_ino) for one in list_checkpoints(run)}


def _going_on(recipe: Recipe, before: set[tuple[str, int]]) -> Recipe:
    """The recipe of a start behind the first: from what this run has saved since, not `before`.

    Where it has saved nothing yet, from where it was to begin: a checkpoint that `resume` names may
    have newer ones beside it, of a course that was given up.
    """
    newest = latest_checkpoint(Path(recipe.run))
    if newest is None or recipe.resume == "auto":
        return recipe
    if (newest.name, newest.stat().st_ino) in before:
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
    ended_by = end.signal if isinstance(end, LyceumError) else None
    rank = end.rank if isinstance(end, LyceumError) and state == "failed" else None
    newest = latest_checkpoint(run)
    status = status_of(
        state,
        step,
        exit_code=code,
        reason=reason,
        error=error,
        rank=rank,
        signal="SIGINT" if code == INTERRUPTED else ended_by,
        checkpoint=newest.name if newest else None,
        restarts=restarts,
        **carried_on(run),
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
    (run / "logs").mkdir(exist_ok=True)
    handler = QuietFile(run / "logs" / LOG)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s: %(message)s"))
    logger = logging.getLogger("launch")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
