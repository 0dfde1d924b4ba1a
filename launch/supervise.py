"""A run from its start to its last word: its ranks, watched, and begun again where that may be."""

import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

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
        if left := left_without_a_word(run):
            _log.warning("%s; it goes on", left)
        places = RankPlaces(recipe, ranks, device)
        return _Supervisor(recipe, device, worker, signals, places, Path(shared), began).run()


class _Supervisor:
    """One command's starts of a run: its ranks, what it does behind a failure, its last word.

    `places`: of the ranks; `shared`: the folder of the files that it shares with them; the others
    as of `supervise`.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: str,
        worker: Callable[[Recipe], int],
        signals: list[int],
        places: RankPlaces,
        shared: Path,
        began: float | None,
    ) -> None:
        self._recipe, self._device, self._worker, self._signals = recipe, device, worker, signals
        self._places, self._shared, self._began = places, shared, began
        self._folder = Path(recipe.run)
        self._place, self._before = LockedFolder(self._folder), _saved(self._folder)
        self._restarts = 0

    def run(self) -> int:
        """Start the ranks until the run ends: the exit code. Raises what ended it."""
        while True:
            overseer = RunOverseer(
                self._recipe.recovery,
                self._shared,
                self._folder / "logs",
                self._restarts,
                self._began,
                self._places,
            )
            try:
                code = self._start(overseer)
            except (RankFailed, DeviceMissing) as error:
                self._begin_again(error, overseer)
            except BaseException as error:
                self._last_word(error)
                raise
            else:
                self._last_word(code)
                return code

    def _start(self, overseer: RunOverseer) -> int:
        """One start of the ranks; raises TrainingError where its folder was gone at the end."""
        again = [f"resume={self._recipe.resume}"] if self._restarts else []
        command = [sys.executable, "-m", "trainer", *sys.argv[1:], *again]
        code = run_ranks(
            partial(self._worker, self._recipe),
            len(self._places.used),
            self._device,
            command,
            overseer=overseer,
            signals=self._signals,
        )
        if code == 0 and (fault := self._place.fault()):
            raise TrainingError(f"run {self._folder} {fault}; what it saved last is not there")
        return code

    def _begin_again(self, error: RankFailed | DeviceMissing, overseer: RunOverseer) -> None:
        """Make ready for another start behind a rank's failure; raises what the run ends by."""
        most = self._recipe.recovery.restarts
        _append_trace(self._folder, error)
        end = self._ends_by(error) or self._places.too_few(
            error, overseer.stepped(error.rank), most - self._restarts - 1
        )
        if end is not None:
            self._last_word(end)
            raise end from error
        self._restarts += 1
        _log.warning("%s: restart %d of %d", shown(error), self._restarts, most)
        self._places.tell()
        self._recipe = _going_on(self._recipe, self._before)

    def _ends_by(self, error: RankFailed | DeviceMissing) -> LyceumError | None:
        """What the run ends by, where it is not begun again behind a rank's failure."""
        if fault := self._place.fault():
            return TrainingError(f"run {self._folder} {fault}; and {error}")
        elastic = self._recipe.recovery.minimum_replicas is not None
        missing = isinstance(error, DeviceMissing) and (self._restarts == 0 or not elastic)
        if missing or self._restarts >= self._recipe.recovery.restarts:
            return error
        if not self._signals:
            return None
        name = signal.Signals(self._signals[0]).name
        stopped = StopRequested(f"{name} came, and the run is not begun again behind this: {error}")
        stopped.signal, stopped.rank = name, error.rank
        return stopped

    def _last_word(self, end: BaseException | int) -> None:
        """Write how the run ended, unless that is only that it was not to begin."""
        run = self._folder
        if not self._place.of_nobody_else() or (
            isinstance(end, RecipeError) and not _has_begun(run)
        ):
            return
        step, newest = recorded_step(run), latest_checkpoint(run)
        status = status_of(
            step=step,
            checkpoint=newest.name if newest else None,
            restarts=self._restarts,
            **_told(end, f"step {step} of {self._recipe.steps}"),
            **carried_on(run),
        )
        try:
            write_status(run, status)
        except TrainingError as fault:
            _log.warning("%s", fault)


def _told(end: BaseException | int, whole: str) -> dict[str, Any]:
    """An end as `status_of` takes it; `whole`: the reason of a run that is done."""
    hasty = "CTRL-C twice: ended at once"
    if isinstance(end, KeyboardInterrupt) or end == INTERRUPTED:
        told = {"state": "stopped", "exit_code": INTERRUPTED, "reason": hasty, "signal": "SIGINT"}
    elif isinstance(end, int):
        ended = f"a rank ended with exit code {end}"
        told = {"state": "failed", "exit_code": end, "reason": ended}
        if end == 0:
            told |= {"state": "done", "reason": whole}
    elif isinstance(end, StopRequested):
        told = {"state": "stopped", "reason": shown(end)}
    elif isinstance(end, LyceumError):
        told = {"state": "failed", "reason": shown(end), "rank": end.rank}
    else:
        told = {"state": "failed", "exit_code": 1, "reason": f"{type(end).__name__}: {end}"}
    if isinstance(end, LyceumError):
        told |= {"exit_code": end.exit_code, "signal": end.signal}
    if told["state"] == "failed" and not isinstance(end, int):
        told["error"] = type(end).__name__
    return told


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
