"""THE training loop: batch -> schedule -> step -> evaluate -> log -> checkpoint."""

from trainer.errors import StopRequested
from trainer.events import events_of, happen
from trainer.examiner import Examiner
from trainer.recipe import Recipe
from trainer.recovery import FaultBoundary, NonFiniteGuard, StopSignals
from trainer.run import Run
from trainer.start import open_run
from trainer.watch import Watch


def train(recipe: Recipe, force: bool = False) -> None:
    """Train one stage to its last step, or until asked to stop.

    Runs on every rank, under torchrun or alone. Resumes as the recipe's `resume` says; `force`
    allows a resume that changes what is learned. Raises StopRequested after a stop was saved,
    GateError where the trained model fails a gate, TrainingError where training failed, RankFailed
    (one too) where this rank did, and what `open_run` raises.
    """
    with (
        FaultBoundary() as faults,
        StopSignals() as signals,
        open_run(recipe, force, signals, faults) as run,
        Watch(run) as watch,
        faults,
    ):
        guard = NonFiniteGuard(run.recipe.recovery.skipped_in_a_row)
        guard.load_state(run.counters.guard)
        examiner = Examiner(run, watch, signals)
        events = events_of(run, watch, examiner)
        examiner.begin()

        while run.step < run.recipe.steps:
            watch.begin_step()
            batch = run.next_batch()
            counts = run.count(batch, stop=signals.requested is not None)
            if counts.stop:
                stop(run, watch, guard, signals.requested)

            losses = run.forward_backward(batch, counts)
            outcome, rate = run.update()
            run.advance(batch, counts)
            watch.end_step(losses, counts, outcome, rate)

            due = [event for event in events if event.when(run.step)]
            happen(due, recorded=True)
            log_finished_steps(run, watch, guard, everything=bool(due))
            happen(due, recorded=False)

        if examiner.stopped:
            stop(run, watch, guard, signals.requested)
        examiner.conclude()
        run.require_folder()


def log_finished_steps(run: Run, watch: Watch, guard: NonFiniteGuard, everything: bool) -> None:
    """Log the steps that the device has finished, and let the guard check them.

    The newest step is left out unless `everything`: waiting for it would leave the device idle.
    Raises TrainingError after too many non-finite steps in a row.
    """
    for step, finite in watch.read(everything):
        guard.observe(finite, step)
        for path in run.settle(step, finite):
            watch.settled(path)
    run.counters.guard = guard.state()


def stop(run: Run, watch: Watch, guard: NonFiniteGuard, signal: str | None) -> None:
    """Save the state after the last complete step, and raise StopRequested (exit code 75)."""
    log_finished_steps(run, watch, guard, everything=True)
    if not run.saved:
        watch.checkpointed(*run.save(last=True))
    for path in run.settle_last():
        watch.settled(path)
    stopped = StopRequested(
        f"run {run.folder} stopped after step {run.step} on {signal or 'another rank'}; the same "
        "command goes on from there"
    )
    stopped.signal = signal
    raise stopped
