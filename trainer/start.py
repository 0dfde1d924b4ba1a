"""Prepare a run for its first step: recipe, sources, model, optimizer, restored state."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from trainer.early_watch import EarlyWatch
from trainer.evaluate.run_suites import open_suites
from trainer.evaluate.stopping import asked_to_stop
from trainer.evaluate.suite_names import require_suites
from trainer.files import write_whole
from trainer.frozen import frozen_copy
from trainer.model.transformer import build_model
from trainer.own_sets import ensure_own_sets
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.join import create_layout, job_store, leave
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe
from trainer.recovery import FaultBoundary, LockedFolder, RunLock, StopSignals, run_lock
from trainer.recovery.heartbeat import LOADING, STARTING
from trainer.recovery.logs import kept_for_the_log
from trainer.recovery.status_file import left_without_a_word
from trainer.recovery.watchdog import Watchdog
from trainer.resolve import resolve
from trainer.restore import base_weights, restore
from trainer.resume import find_resume_point, with_verified_resume
from trainer.run import Run

_log = logging.getLogger(__name__)


@contextmanager
def open_run(
    recipe: Recipe, force: bool, signals: StopSignals, faults: FaultBoundary
) -> Iterator[Run]:
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
            on_first_rank(ranks, partial(_lock, Path(recipe.run), held))
            held.enter_context(
                Watchdog(job_store(), faults.heartbeat, recipe.recovery, Path(recipe.run))
            )
            place = LockedFolder(Path(recipe.run)) if layout.reports else None
            on_first_rank(ranks, lambda: require_suites(recipe))
            asked = recipe.resume
            recipe = with_verified_resume(recipe, ranks)
            recipe, sources = resolve(recipe, layout, ranks)
            point = find_resume_point(recipe, sources.tokenizer, force, ranks)
            recipe = recipe.model_copy(update={"resume": asked})
            assert recipe.model.vocab is not None, "a resolved recipe has it"
            chunks = build_model(recipe, recipe.model.vocab, layout)
            optimizer = create_optimizer(chunks, recipe, layout)
            faults.heartbeat.beat(LOADING, 0)
            beginning = restore(recipe, point, chunks, optimizer)
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
            run = Run(
                *(recipe, layout, sources, chunks, optimizer, beginning, suites, base, frozen),
                heartbeat=faults.heartbeat,
                place=place,
            )
            if layout.reports:
                write_whole(run.folder / "recipe.yaml", recipe.to_yaml())
                write_whole(run.folder / "sources.json", sources.record(recipe))
            held.callback(run.close)
            yield run
    finally:
        leave()


def _lock(run: Path, held: ExitStack) -> None:
    """Hold the run's lock, unless the process that started this rank does, and say what was left
    by one that could not.
    """
    lock = run_lock(run)
    held.enter_context(lock)
    if isinstance(lock, RunLock) and (left := left_without_a_word(run)):
        _log.warning("%s; it goes on", left)
