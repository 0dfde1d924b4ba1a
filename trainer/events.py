"""The events after a training step (evaluate, sample, save, promote): one list, for the loop."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trainer.examiner import Examiner
from trainer.run import Run
from trainer.watch import Watch

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """An action after a step that needs the step's metrics, or the device idle.

    `when(step)`: whether it follows step `step`, which the host then waits for; `action`: run on
    every rank; `recorded`: its results belong to the step's record, so that it runs before the
    record is written.
    """

    when: Callable[[int], bool]
    action: Callable[[], None]
    recorded: bool = False


def events_of(run: Run, watch: Watch, examiner: Examiner) -> list[Event]:
    """The recipe's events, in the order in which they run."""
    recipe = run.recipe

    def evaluate() -> None:
        watch.validating()
        values = run.validate()
        watch.evaluated(values)
        examiner.validated(values)

    def sample() -> None:
        watch.sampled(run.sample())

    saving = every(recipe.checkpoint.every)
    owed = Owed()

    def save() -> None:
        if owed.postpones(run.step, run.skipping and run.step < recipe.steps):
            return
        run.saving.save()

    def save_final() -> None:
        run.saving.finish()
        if recipe.checkpoint.save_final and not run.saving.saved:
            run.saving.save(last=True)

    return [
        Event(every(recipe.evaluate.every), evaluate, recorded=True),
        Event(examiner.due, examiner.examine, recorded=True),
        Event(profiling_borders(recipe.profile.steps), lambda: None),
        Event(every(recipe.evaluate.sample_every), sample),
        Event(lambda step: saving(step) or owed.owed, save),
        Event(lambda step: step == recipe.steps, save_final),
        Event(examiner.promotes, examiner.promote),
    ]


class Owed:
    """Whether a checkpoint that was due is still to be saved, as steps were being skipped.

    What is saved while the loss or the gradient is not finite may be what spoilt them.
    """

    def __init__(self) -> None:
        self.owed = False

    def postpones(self, step: int, skipping: bool) -> bool:
        """Whether the checkpoint after a step waits for one that is applied; says so once."""
        if skipping and not self.owed:
            _log.warning("step %d is not saved, as it was skipped: the next applied one is", step)
        self.owed = skipping
        return skipping


def every(steps: int) -> Callable[[int], bool]:
    """A predicate: whether a step is a multiple of `steps`; never where that is 0."""
    return lambda step: steps > 0 and step % steps == 0


def profiling_borders(window: tuple[int, int] | None) -> Callable[[int], bool]:
    """A predicate: whether profiling begins or ends after a step, so that the device must be idle.

    `window`: first and last profiled step.
    """
    borders = () if window is None else (window[0] - 1, window[1])
    return lambda step: step in borders


def happen(due: Iterable[Event], *, recorded: bool) -> None:
    """Run the due events whose `recorded` is as given."""
    for event in due:
        if event.recorded == recorded:
            event.action()
