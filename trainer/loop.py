"""THE training loop: batch -> schedule -> step -> evaluate -> log -> checkpoint."""

from trainer.errors import StopRequested
from trainer.events import events_of, happen
from trainer.examiner import Examiner
from trainer.finished_steps import FinishedSteps
from trainer.recipe import Recipe
from trainer.recovery import FaultBoundary, StopSignals
from trainer.recovery.spikes import Spike, SpikeSeen
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
        open_run(recipe, force, signals, faults) as opened,
    ):
        watch = Watch(opened.run)
        while (spike := train_course(opened.run, watch, signals, faults)) is not None:
            with faults:
                opened.roll_back(spike)
            watch = Watch(opened.run, before=watch)


def train_course(
    run: Run, watch: Watch, signals: StopSignals, faults: FaultBoundary
) -> Spike | None:
    """Train to the last step; the spike where one takes the run back to an earlier step."""
    with watch, faults:
        try:
            train_steps(run, watch, signals)
        except SpikeSeen as back:
            watch.rolled_back(back.spike)
            return back.spike
    return None


def train_steps(run: Run, watch: Watch, signals: StopSignals) -> None:
    """Train to the last step. Raises SpikeSeen at a spike, and as `train`."""
    finished = FinishedSteps(run, watch)
    examiner = Examiner(run, watch, signals)
    events = events_of(run, watch, examiner)
    examiner.begin()

    while run.step < run.recipe.steps:
        watch.begin_step()
        batch = run.next_batch()
        counts = run.count(batch, stop=signals.requested is not None)
        if counts.stop:
            stop(run, watch, finished, signals.requested)

        losses = run.forward_backward(batch, counts)
        outcome, rate = run.update()
        run.advance(batch, counts)
        watch.end_step(losses, counts, outcome, rate)

        due = [event for event in events if event.when(run.step)]
        happen(due, recorded=True)
        finished.read(everything=bool(due))
        happen(due, recorded=False)

    if examiner.stopped:
        stop(run, watch, finished, signals.requested)
    run.saving.finish()
    run.saving.finish_copies()
    finished.tell_saves()
    watch.conclude()
    examiner.conclude()
    run.require_folder()


def stop(run: Run, watch: Watch, finished: FinishedSteps, signal: str | None) -> None:
    """Save the state after the last complete step, and raise StopRequested (exit code 75)."""
    finished.read(everything=True)
    run.saving.finish()
    if not run.saving.saved:
        run.saving.save(last=True)
    run.saving.settle_last()
    finished.tell_saves()
    watch.conclude()
    stopped = StopRequested(
        f"run {run.folder} stopped after step {run.step} on {signal or 'another rank'}; the same "
        "command goes on from there"
    )
    stopped.signal = signal
    raise stopped
