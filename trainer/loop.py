"""THE training loop: batch -> schedule -> step -> log -> evaluate -> checkpoint."""

from trainer.errors import StopRequested
from trainer.recipe import Recipe
from trainer.recovery import Guard, StopSignals
from trainer.run import Run
from trainer.start import open_run
from trainer.watch import Watch


def train(recipe: Recipe, force: bool = False) -> None:
    """Train one stage to its last step, or until asked to stop.

    Runs on every rank, under torchrun or alone. Resumes as the recipe's `resume` says; `force`
    allows a resume that changes what is learned. Raises StopRequested after a stop was saved,
    TrainingError where training failed, and what `open_run` raises.
    """
    with StopSignals() as signals, open_run(recipe, force) as run, Watch(run) as watch:
        guard = Guard(run.recipe.recovery.skipped_in_a_row)
        guard.load_state(run.counters.guard)

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

            if due(run.recipe.evaluate.every, run):
                watch.evaluated(run.validate())
            read(run, watch, guard, everything=run.pauses)

            if due(run.recipe.evaluate.sample_every, run):
                watch.sampled(run.sample())
            if due(run.recipe.checkpoint.every, run):
                watch.saved(*run.save())

        if run.recipe.checkpoint.save_final and not run.saved:
            watch.saved(*run.save())


def due(every: int, run: Run) -> bool:
    """Whether something that happens each `every` steps (0: never) happens after this one."""
    return every > 0 and run.step % every == 0


def read(run: Run, watch: Watch, guard: Guard, everything: bool) -> None:
    """Log the steps that the device has done, and let the guard judge them.

    Not the newest, unless `everything` is to be known: the device would run dry meanwhile.
    """
    for step, finite in watch.read(everything):
        guard.observe(finite, step)
    run.counters.guard = guard.state()


def stop(run: Run, watch: Watch, guard: Guard, signal: str | None) -> None:
    """Save what the last whole step left, and end with exit code 75."""
    read(run, watch, guard, everything=True)
    if not run.saved:
        watch.saved(*run.save())
    raise StopRequested(
        f"run {run.folder} stopped after step {run.step} on {signal or 'another rank'}; the same "
        "command goes on from there"
    )
