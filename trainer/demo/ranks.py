"""What the demo does on local ranks: train, or measure and hand back what was found."""

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
    """Rank 0's JSON-able result of `worker`, which every one of the demo's ranks runs.

    Ends this process with a rank's exit code where one failed with no error of ours.
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
    """Run `worker` where the threads that a tokenizer starts do not outlive it: forks come."""
    from launch.ranks import run_ranks

    def rank() -> int:
        worker()
        return 0

    _demand(run_ranks(rank, 1, "cpu"))


def train(recipe: Recipe) -> None:
    """Train on the demo's ranks, from where the run stopped."""
    from launch.local import train_ranks

    _demand(train_ranks(recipe, RANKS, force=False))


def _demand(code: int) -> None:
    if code:
        raise SystemExit(code)
