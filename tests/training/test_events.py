"""What follows a step stands in one list: whoever adds to it need not think of anything else."""

from collections.abc import Callable
from pathlib import Path

import pytest

import trainer.loop
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, write_text
from trainer.events import Event, events_of, every, happen, profiling_borders
from trainer.loop import train
from trainer.observe import read_metrics
from trainer.recipe import Recipe


def logged_at_an_added_event(recipe: Recipe, when: Callable[[int], bool]) -> list[list[int]]:
    """Which steps metrics.jsonl holds each time that an event of our own happens."""
    found = []

    def look() -> None:
        found.append([record["step"] for record in read_metrics(Path(recipe.run))])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            trainer.loop,
            "events_of",
            lambda *parts: [*events_of(*parts), Event(when, look)],
        )
        train(recipe)
    return found


def at_step_2_or_9(step: int) -> bool:
    return step in (2, 9)


def test_an_added_event_happens_and_its_step_is_known(tmp_path: Path) -> None:
    """Catches an event that happens while the host has not read its step's numbers yet.

    Nothing else reads a step before the fourth here: numbers are read eight steps together.
    """
    write_text(tmp_path)
    quiet = {"steps": 4, "observe__read_every": 8, "checkpoint__save_final": False}
    recipe = recipe_of(tmp_path / "run", tmp_path, **quiet)
    assert on_ranks(1, logged_at_an_added_event, recipe, at_step_2_or_9)[0] == [[1, 2]]


def test_a_step_that_nothing_follows_is_read_later(tmp_path: Path) -> None:
    """Negative control: with another event's step the second one is not read by itself."""
    write_text(tmp_path)
    quiet = {"steps": 4, "observe__read_every": 8, "checkpoint__save_final": False}
    recipe = recipe_of(tmp_path / "run", tmp_path, **quiet)
    assert on_ranks(1, steps_logged_after_the_second, recipe)[0] == []


def steps_logged_after_the_second(recipe: Recipe) -> list[int]:
    """What metrics.jsonl holds when the third step begins."""
    found: list[int] = []
    begin = trainer.loop.Watch.begin_step

    def look(watch: trainer.loop.Watch) -> None:
        if watch._run.step == 2:
            found.extend(record["step"] for record in read_metrics(Path(recipe.run)))
        begin(watch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.loop.Watch, "begin_step", look)
        train(recipe)
    return found


def test_when_events_are_due() -> None:
    """Catches an interval of 0 that divides, and a profile whose last step overlaps the next."""
    assert [step for step in range(1, 7) if every(3)(step)] == [3, 6]
    assert not any(every(0)(step) for step in range(1, 7))
    assert [step for step in range(7) if profiling_borders((3, 5))(step)] == [2, 5]
    assert not any(profiling_borders(None)(step) for step in range(7))


def test_what_is_recorded_happens_before_the_rest() -> None:
    """Catches a figure that comes too late for its step's line."""
    told: list[str] = []
    events = [
        Event(every(1), lambda: told.append("save")),
        Event(every(1), lambda: told.append("evaluate"), recorded=True),
    ]
    happen(events, recorded=True)
    assert told == ["evaluate"]
    happen(events, recorded=False)
    assert told == ["evaluate", "save"]
