"""Prepare a run for its first step: recipe, sources, model, optimizer, restored state."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainer.checkpoint import latest_checkpoint
from trainer.checkpoint.background import BackgroundSaver
from trainer.checkpoint.copies import CheckpointCopier, require_target
from trainer.checkpoint.local import bring_home, forget, local_folder, tidy
from trainer.checkpoint.marks import is_settled
from trainer.checkpoint.state import training_bytes
from trainer.early_watch import EarlyWatch
from trainer.evaluate.run_suites import RunSuites, open_suites
from trainer.evaluate.stopping import asked_to_stop
from trainer.evaluate.suite_names import require_suites
from trainer.files import write_whole
from trainer.frozen import frozen_copy
from trainer.model.transformer import LanguageModel, build_model
from trainer.own_sets import ensure_own_sets
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.join import create_layout, job_store, leave, meeting_store
from trainer.parallel.layout import Layout
from trainer.parallel.zero import Optimizer, create_optimizer
from trainer.recipe import Recipe
from trainer.recovery import (
    FaultBoundary,
    Heartbeat,
    LockedFolder,
    RunLock,
    StopSignals,
    run_lock,
)
from trainer.recovery.heartbeat import LOADING, STARTING
from trainer.recovery.logs import kept_for_the_log
from trainer.recovery.spikes import Spike
from trainer.recovery.standby import tell_replicas, telling_spares
from trainer.recovery.status_file import (
    begun_by_this_job,
    left_without_a_word,
    restarts_before,
)
from trainer.recovery.watchdog import Watchdog
from trainer.resolve import resolve
from trainer.restore import base_weights, restore
from trainer.resume import ResumePoint, find_resume_point, with_verified_resume
from trainer.rollback import decide, left_out_of
from trainer.run import Beginning, Run
from trainer.shared_folder import require_shared
from trainer.sources import Sources
from trainer.stages.stage import FrozenCopy

_log = logging.getLogger(__name__)


@contextmanager
def open_run(
    recipe: Recipe, force: bool, signals: StopSignals, faults: FaultBoundary
) -> Iterator["OpenRun"]:
    """Everything that the loop needs, at the step where the run left off; one writer a directory.

    Raises RecipeError (the recipe, the layout, a directory in use, a resume that would change what
    is learned without `force`, a suite that cannot be measured), DataError, CheckpointError,
    ClusterError: on all ranks alike; StopRequested where `signals` came while its model was asked.
    `faults` notes what fails here.
    """
    layout = create_layout(recipe)
    # Every rank writes its own log file; only rank 0 logs to the screen.
    logging.getLogger("trainer").propagate = layout.reports
    ranks = Ranks()
    try:
        with ExitStack() as held, kept_for_the_log(), faults:
            if layout.reports:
                held.enter_context(telling_spares(meeting_store))
            on_first_rank(ranks, partial(_lock, Path(recipe.run), held))
            on_first_rank(ranks, partial(tell_replicas, recipe, layout.world_size))
            held.enter_context(
                Watchdog(job_store(), faults.heartbeat, recipe.recovery, Path(recipe.run))
            )
            place = LockedFolder(Path(recipe.run)) if layout.reports else None
            on_first_rank(ranks, lambda: require_suites(recipe))
            require_shared(Path(recipe.run), ranks)
            on_first_rank(ranks, partial(_require_copies, recipe))
            asked = recipe.resume
            resume = on_first_rank(ranks, partial(_resume_of_start, recipe))
            recipe = recipe.model_copy(update={"resume": resume})
            recipe, local = _with_what_came_home(recipe, ranks, faults.heartbeat)
            recipe = with_verified_resume(recipe, ranks)
            recipe, sources = resolve(recipe, layout, ranks)
            point = find_resume_point(recipe, sources.tokenizer, force, ranks)
            recipe = recipe.model_copy(update={"resume": asked})
            assert recipe.model.vocab is not None, "a resolved recipe has it"
            chunks = build_model(recipe, recipe.model.vocab, layout)
            optimizer = create_optimizer(chunks, recipe, layout)
            faults.heartbeat.beat(LOADING, 0)
            beginning = restore(recipe, point, chunks, optimizer, verified=True)
            if local is not None:
                forget(local)
                held.callback(tidy, local)
            faults.heartbeat.beat(STARTING, 0)
            base = partial(base_weights, recipe, point, chunks, optimizer)
            with EarlyWatch(recipe, layout, beginning.counters.step) as early:
                stop = partial(asked_to_stop, signals, layout.hosts)
                sources = ensure_own_sets(
                    *(recipe, layout, sources, chunks, base, stop, early.advance)
                )
            longest = max(beginning.counters.longest_sequence, recipe.sequence_length)
            suites = open_suites(recipe, layout, sources, chunks, longest)
            frozen = frozen_copy(recipe, layout)
            saver = BackgroundSaver(layout.device, faults.heartbeat.again, local)
            held.callback(saver.abandon)
            if recipe.checkpoint.every:
                saver.prepare(training_bytes(chunks, recipe.checkpoint.average is not None))
            copier = _copier(recipe, held) if layout.reports else None
            parts = _Parts(
                *(recipe, layout, sources, chunks, optimizer, suites, frozen, place, saver, copier)
            )
            opened = OpenRun(parts, ranks, faults.heartbeat, point, beginning)
            if layout.reports:
                write_whole(opened.run.folder / "recipe.yaml", recipe.to_yaml())
                write_whole(opened.run.folder / "sources.json", sources.record(recipe))
            held.callback(opened.close)
            yield opened
    finally:
        leave()


@dataclass(frozen=True)
class _Parts:
    """What stays of a run when it goes back to an earlier step."""

    recipe: Recipe
    layout: Layout
    sources: Sources
    chunks: list[LanguageModel]
    optimizer: Optimizer
    suites: RunSuites | None
    frozen: FrozenCopy | None
    place: LockedFolder | None
    saver: BackgroundSaver
    copier: CheckpointCopier | None


class OpenRun:
    """The `run` that is open, and the way back to its last good checkpoint."""

    def __init__(
        self,
        parts: _Parts,
        ranks: Ranks,
        heartbeat: Heartbeat,
        point: ResumePoint | None,
        beginning: Beginning,
    ) -> None:
        self._parts, self._ranks, self._heartbeat = parts, ranks, heartbeat
        self._point = point
        self.run = self._begin(beginning)

    def _begin(self, beginning: Beginning) -> Run:
        parts, point = self._parts, self._point
        new = beginning.counters.step == 0
        told = on_first_rank(self._ranks, lambda: list(left_out_of(parts.recipe, new).items()))
        base = partial(base_weights, parts.recipe, point, parts.chunks, parts.optimizer)
        return Run(
            *(parts.recipe, parts.layout, parts.sources, parts.chunks, parts.optimizer, beginning),
            *(parts.suites, base, parts.frozen),
            heartbeat=self._heartbeat,
            place=parts.place,
            saver=parts.saver,
            copier=parts.copier,
            left_out={step: batches for step, batches in told},
        )

    def roll_back(self, spike: Spike) -> None:
        """Begin `run` anew at the last good checkpoint before a spike, behind the data that led to
        it. Collective. Raises TrainingError where it has gone back as often as it may, and
        CheckpointError where no checkpoint can be read.
        """
        recipe, known = self._parts.recipe, self._point
        self.run.saving.finish()
        self._heartbeat.beat(LOADING, spike.step)
        self.run.close()
        auto = recipe.model_copy(update={"resume": "auto"})
        checkpoint = with_verified_resume(auto, self._ranks).resume
        kept = known is None or known.checkpoint != checkpoint or known.keeps_position
        point = ResumePoint(checkpoint, keeps_position=kept)
        arguments = self.run.stage.stream_arguments()
        on_first_rank(
            self._ranks,
            lambda: decide(recipe, spike, Path(checkpoint), arguments, kept, self._heartbeat),
        )
        if self._parts.saver.local is not None:
            forget(self._parts.saver.local)  # of the course that is given up
        if self._parts.copier is not None:
            self._parts.copier.offer(Path(checkpoint))  # the decision goes with it
        self._point = point
        parts = self._parts
        beginning = restore(recipe, point, parts.chunks, parts.optimizer, verified=True)
        self.run = self._begin(beginning)
        self.run.notes["rolled_back_from"] = spike.step

    def close(self) -> None:
        """Stop the data workers."""
        self.run.close()


def _with_what_came_home(
    recipe: Recipe, ranks: Ranks, heartbeat: Heartbeat
) -> tuple[Recipe, Path | None]:
    """The recipe, which goes on from what the machines' own disks held of this run, if they did;
    and where this machine's lies, None without one.
    """
    local, run = local_folder(recipe, ranks), Path(recipe.run)
    if local is None:
        return recipe, None
    again = on_first_rank(ranks, lambda: restarts_before() > 0 or begun_by_this_job(run))
    if bring_home(local, run, ranks, again or recipe.resume == "auto", heartbeat.again):
        recipe = recipe.model_copy(update={"resume": "auto"})
    return recipe, local


def _require_copies(recipe: Recipe) -> None:
    if recipe.checkpoint.copy_to is not None:
        require_target(recipe.checkpoint.copy_to, Path(recipe.run))


def _copier(recipe: Recipe, held: ExitStack) -> CheckpointCopier | None:
    """What copies the run's checkpoints elsewhere, where the recipe names a place."""
    if recipe.checkpoint.copy_to is None:
        return None
    run = Path(recipe.run)
    copier = CheckpointCopier(recipe.checkpoint.copy_to, run)
    held.callback(copier.close)
    newest = latest_checkpoint(run)
    if newest is not None and is_settled(newest):
        copier.offer(newest)  # which an earlier start may have left uncopied
    return copier


def _lock(run: Path, held: ExitStack) -> None:
    """Hold the run's lock, unless the process that started this rank does, and say what was left
    by one that could not.
    """
    lock = run_lock(run)
    held.enter_context(lock)
    if isinstance(lock, RunLock) and (left := left_without_a_word(run)):
        _log.warning("%s; it goes on", left)


def _resume_of_start(recipe: Recipe) -> str:
    """Where the run goes on: what `resume` says was done where torchrun has begun it before."""
    run = Path(recipe.run)
    if recipe.resume == "auto" or not begun_by_this_job(run) or latest_checkpoint(run) is None:
        return recipe.resume
    _log.warning(
        "resume=%s: torchrun's job of this name has begun the run so, and goes on from the newest "
        "good checkpoint; to begin it so once more, give torchrun another --rdzv-id",
        recipe.resume,
    )
    return "auto"
