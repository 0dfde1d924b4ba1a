"""Running the demo's work on local ranks: training, or a function with a result."""

from collections.abc import Callable
from typing import TypeVar

from trainer.demo.recipes import RANKS
from trainer.recipe import Recipe

_T = TypeVar("_T")


def on_ranks(worker: Callable[[], _T]) -> _T:
    """Run `worker` on all of the demo's ranks; returns rank 0's result, JSON values.

    Raises SystemExit with the exit code of a rank that fails, unless `run_ranks` raises its error.
    """
    from launch.local import result_on_ranks

    return result_on_ranks(worker, RANKS)


def in_another_process(worker: Callable[[], None]) -> None:
    """Run `worker` in a child process, so that its tokenizer threads end before later forks."""
    from launch.local import result_on_ranks

    result_on_ranks(worker, 1)


def train(recipe: Recipe) -> None:
    """Train on the demo's ranks, resuming a run that stopped. Raises SystemExit where it fails."""
    from launch.local import train_ranks

    _demand(train_ranks(recipe, RANKS, force=False))


def _demand(code: int) -> None:
    if code:
        raise SystemExit(code)
