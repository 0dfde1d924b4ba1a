"""Running the demo's work on local ranks: training, or a function with a result."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trainer.demo.recipes import RANKS
from trainer.recipe import Recipe

_T = TypeVar("_T")


def on_ranks(worker: Callable[[], _T]) -> _T:
    """Run `worker` on all of the demo's ranks; returns rank 0's result, JSON values.

    Raises SystemExit with the exit code of a rank that fails, unless `run_local` raises its error.
    """
    from launch.local import run_local

    with tempfile.TemporaryDirectory(prefix="lyceum-") as folder:
        path = Path(folder) / "result.json"

        def rank() -> int:
            result = worker()
            if os.environ["RANK"] == "0":
                path.write_text(json.dumps(result), encoding="utf-8")
            return 0

        _demand(run_local(rank, RANKS, "cpu"))
        found: _T = json.loads(path.read_text(encoding="utf-8"))
        return found


def in_another_process(worker: Callable[[], None]) -> None:
    """Run `worker` in a child process, so that its tokenizer threads end before later forks."""
    from launch.ranks import run_ranks

    def rank() -> int:
        worker()
        return 0

    _demand(run_ranks(rank, 1, "cpu"))


def train(recipe: Recipe) -> None:
    """Train on the demo's ranks, resuming a run that stopped. Raises SystemExit where it fails."""
    from launch.local import train_ranks

    _demand(train_ranks(recipe, RANKS, force=False))


def _demand(code: int) -> None:
    if code:
        raise SystemExit(code)
