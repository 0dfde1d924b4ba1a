"""The checkpoints of a run: begun by the loop, written beside it, good as the steps behind say."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.checkpoint import Piece, folder_name, rotate
from trainer.checkpoint.average import average_pieces, remove_others
from trainer.checkpoint.background import BackgroundSaver, FinishedSave, Snapshot
from trainer.checkpoint.copies import CheckpointCopier
from trainer.checkpoint.format import AVERAGE
from trainer.checkpoint.lora_base import LoraBase
from trainer.checkpoint.marks import Settling, mark_unsettled, remove_marks, settle
from trainer.checkpoint.state import training_pieces
from trainer.errors import NotFiniteError, TrainingError
from trainer.parallel.agreement import Ranks, on_first_rank

if TYPE_CHECKING:
    from trainer.run import Run

_log = logging.getLogger(__name__)


class Saving:
    """Saves a run's state, one checkpoint at a time; collective where it says so.

    `saver`: writes in the background; `lora_base` and `imported_files`: as `trainer.run.Beginning`;
    `copier`: copies what is good elsewhere, on the rank that reports.
    """

    def __init__(
        self,
        run: "Run",
        saver: BackgroundSaver,
        lora_base: LoraBase | None,
        imported_files: Mapping[str, bytes],
        copier: CheckpointCopier | None = None,
    ) -> None:
        self._run, self._saver = run, saver
        self._lora_base, self._imported_files = lora_base, imported_files
        self._saved_step = run.step
        self._settling = Settling()
        self._ended: list[FinishedSave] = []
        self._good: list[Path] = []
        self._copier = copier

    @property
    def step(self) -> int:
        """Optimizer steps attempted so far."""
        return self._run.step

    @property
    def saved(self) -> bool:
        """Whether a checkpoint (or the beginning) holds exactly this state, once `finish` was."""
        return self._saved_step == self._run.step

    @property
    def spoilt(self) -> bool:
        """Whether the save that is under way has found values that are not finite."""
        return self._saver.spoilt

    @property
    def _folder(self) -> Path:
        return self._run.folder / "checkpoints"

    def save(self, last: bool = False) -> None:
        """Begin a checkpoint of this state: the loop waits for its copy in host memory alone.

        It counts as good once it is whole and `recovery.settle` steps behind it were applied; the
        `last` one of a run or a stop at once, unless its own step was skipped, and that is waited
        for. The average of the weights is written first: a run that is killed between the two does
        not go on from a checkpoint whose average is missing. Collective. Raises TrainingError where
        the run directory is no longer the run's, where weights or optimizer state are not finite,
        and where the last one cannot be written.
        """
        self.finish()
        began = time.perf_counter()
        run = self._run
        run.heartbeat.beat("save", run.step)
        run.require_folder()
        last = last or run.step >= run.recipe.steps
        at_once = not run.skipping if last else run.recipe.recovery.settle == 0
        fault = on_first_rank(Ranks(run.layout.hosts), partial(self._announce, at_once))
        if fault is not None and at_once and self._saver.local is not None:
            self._settling.add(self._folder / folder_name(run.step), steps=0)
        elif fault is not None:
            if last:
                raise TrainingError(fault)
            if run.layout.reports:
                _log.warning("%s; training goes on", fault)
            return
        run.counters.updates = run.optimizer.updates
        run.counters.averaged = run.optimizer.weight_average.entered
        snapshots = []
        if run.counters.averaged:
            averages = average_pieces(run.chunks, run.optimizer)
            snapshots.append(self._snapshot(run.folder / AVERAGE, 0, averages))
        pieces = training_pieces(run.chunks, run.optimizer)
        snapshots.append(self._snapshot(run.folder, 1, pieces))
        run.notes["save_stall_seconds"] = self._saver.start(snapshots, began)
        self._settle_early()
        self._saved_step = run.step
        if last or not run.recipe.checkpoint.background:
            finished = self.finish()
            if last and finished is not None and finished.error is not None:
                raise finished.error

    def finish(self) -> FinishedSave | None:
        """Wait for the save that is under way; None where there was none. Collective.

        Where it failed, this state is not `saved`. Raises TrainingError where weights or optimizer
        state were not finite.
        """
        if not self._saver.busy:
            return None
        if self._run.heartbeat.phase != "save":
            self._run.heartbeat.beat("save", self._run.step)
        finished = self._saver.wait()
        self._look()
        if finished.error is not None:
            self._saved_step = -1
        if isinstance(finished.error, NotFiniteError):
            raise finished.error
        return finished

    def finish_copies(self) -> None:
        """Wait until what is whole is copied too; on the rank that reports."""
        if self._copier is not None:
            self._copier.wait(self._run.heartbeat.again)
            self._look_at_copies()

    def _look_at_copies(self) -> None:
        for copy in self._copier.ended() if self._copier else ():
            if copy.error is not None:
                _log.warning("%s; it is in the run directory, and training goes on", copy.error)
                continue
            if copy.nbytes:
                self._run.notes |= {"copied_step": copy.step, "copy_seconds": copy.seconds}

    def ended(self) -> list[FinishedSave]:
        """The saves that have ended since this was asked last, on the rank that reports."""
        self._look()
        self._look_at_copies()
        ended, self._ended = self._ended, []
        return ended

    def newly_good(self) -> list[Path]:
        """The checkpoints that have come to count as good since this was asked last."""
        good, self._good = self._good, []
        return good

    def settle(self, step: int, applied: bool) -> None:
        """Count a finished step for the checkpoints before it."""
        if self._run.layout.reports:
            self._became_good(self._settling.observe(step, applied))
            self._settle_early()

    def settle_last(self) -> None:
        """Let the checkpoint of this step, which is the last before a stop, count as good at once,
        unless its own step was skipped.
        """
        path = self._folder / folder_name(self._run.step)
        if self._run.layout.reports and not self._run.skipping and path.is_dir():
            self._became_good([path])

    def rotate(self) -> None:
        """Remove the checkpoints that the recipe does not keep; on one rank."""
        section = self._run.recipe.checkpoint
        rotate(self._run.folder, section.keep, keep_every=section.keep_every)

    def _announce(self, at_once: bool) -> str | None:
        """Mark a checkpoint that has to show itself good, before it has its name; why it cannot be,
        if so. On the first rank.
        """
        run, path = self._run, self._folder / folder_name(self._run.step)
        try:
            mark_unsettled(path.parent, run.step)
        except OSError as error:
            return (
                f"step {run.step} cannot be saved: {error.filename or path.parent}: "
                f"{error.strerror}; earlier checkpoints are intact"
            )
        self._settling.add(path, steps=0 if at_once else run.recipe.recovery.settle)
        return None

    def _look(self) -> None:
        """Take what has become of the save, without waiting; on the rank that reports."""
        finished = self._saver.poll()
        if finished is None or not self._run.layout.reports:
            return
        self._ended.append(finished)
        path = self._folder / folder_name(finished.step)
        if finished.error is not None:
            if self._saver.local is None:  # else it may come home, and settles until then
                self._forget(path)
            _log.warning("%s; training goes on", finished.error)
            return
        for lost in self._settling.drop_before(path):
            self._forget(lost)
        self._run.notes |= {
            "saved_step": finished.step,
            "save_seconds": finished.seconds,
            "save_mib_per_second": finished.nbytes / 2**20 / max(finished.write_seconds, 1e-9),
        }
        self._became_good(self._settling.complete(path))
        self.rotate()
        if self._run.recipe.checkpoint.average is not None:
            remove_others(self._run.folder, finished.step)

    def _forget(self, path: Path) -> None:
        """Forget a checkpoint that was announced and never came to be."""
        self._settling.drop(path)
        if not path.exists():
            remove_marks(path)

    def _settle_early(self) -> None:
        """Let what is good, and lies on the machines' own disks yet, be so when it comes home."""
        if self._saver.local is not None and self._run.layout.reports:
            for path in self._settling.settled_before_whole():
                settle(path)

    def _became_good(self, settled: list[Path]) -> None:
        for path in settled:
            settle(path)
            if self._copier is not None:
                self._copier.offer(path)
        if settled:
            self.rotate()
        self._good += settled

    def _snapshot(self, folder: Path, part: int, pieces: Iterator[Piece]) -> Snapshot:
        """A checkpoint of this step for a run directory, its values in host memory."""
        run = self._run
        recipe = run.recipe.model_copy(update={"run": str(folder)})
        attachments = {**self._imported_files} | {"recipe.yaml": recipe.to_yaml().encode()}
        attachments |= run.stage.kept(run.counters.stream)
        for name, content in run.tokenizer.files.items():
            attachments[f"tokenizer/{name}"] = content
        if self._lora_base is not None:
            checkpoint = folder / "checkpoints" / folder_name(run.step)
            attachments |= self._lora_base.attachment(checkpoint)
        local = self._saver.local
        if local is not None:
            local = local / folder.relative_to(run.folder) / "checkpoints"
        return Snapshot(
            folder / "checkpoints",
            run.step,
            self._saver.snapshot(part, self._heard(pieces)),
            model=run.recipe.model.model_dump(mode="json"),
            counters=asdict(run.counters),
            attachments=attachments,
            local=local,
        )

    def _heard(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """The pieces, and a sign of life with each."""
        for piece in pieces:
            self._run.heartbeat.again()
            yield piece
