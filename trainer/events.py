"""What follows a training step: one list, from which the loop learns what happens and when."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trainer.run import Run
from trainer.watch import Watch


@dataclass(frozen=True)
class Event:
    """Something that happens after a step, and wants its numbers known or the device for itself.

    `when(step)`: whether it follows step `step`, which the host then waits for. `recorded`: what it
    gives stands in the step's own record, so that it happens before that is written.
    """

    when: Callable[[int], bool]
    action: Callable[[], None]
    recorded: bool = False


def events_of(run: Run, watch: Watch) -> list[Event]:
    """What the recipe wants after its steps, in the order in which it happens."""
    recipe = run.recipe

    def evaluate() -> None:
        watch.evaluated(run.validate())

    def sample() -> None:
        watch.sampled(run.sample())

    def save() -> None:
        watch.checkpointed(*run.save())

    def save_final() -> None:
        if recipe.checkpoint.save_final and not run.saved:
            save()

    return [
        Event(every(recipe.evaluate.every), evaluate, recorded=True),
        Event(profiling_borders(recipe.profile.steps), lambda: None),
        Event(every(recipe.evaluate.sample_every), sample),
        Event(every(recipe.checkpoint.every), save),
        Event(lambda step: step == recipe.steps, save_final),
    ]


def every(steps: int) -> Callable[[int], bool]:
    """Whether a step is one of each `steps`; of none where that is 0."""
    return lambda step: steps > 0 and step % steps == 0


def profiling_borders(window: tuple[int, int] | None) -> Callable[[int], bool]:
    """Whether the profiler begins or ends behind a step: nothing of another may still run."""
    borders = () if window is None else (window[0] - 1, window[1])
    return lambda step: step in borders


def happen(due: Iterable[Event], *, recorded: bool) -> None:
    """Let those happen that are `recorded` in the step, or those that are not."""
    for event in due:
        if event.recorded == recorded:
            event.action()
