"""CPU time that watching a run takes of each step: records, metrics, goodput, heartbeats, launcher.

    python -m launch.experiments.watch_cost [--steps N]

A two-rank tiny run in which the methods that measure, and no training, are wrapped in a clock of
their thread's CPU time; the launcher's looks at its ranks are counted to the steps too.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from launch.faults.layouts import LAYOUTS, base_recipe, recipe_of, write_sources
from launch.overseer import RunOverseer


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_sources(folder)
        for name, seconds in sorted(_measured(folder, steps).items()):
            print(f"{name}: {1000 * seconds / steps:.2f} ms of CPU time a step")


def _measured(folder: Path, steps: int) -> dict[str, float]:
    from launch.faults.launcher import run_to_end
    from trainer.finished_steps import FinishedSteps
    from trainer.recovery.heartbeat import Heartbeat
    from trainer.recovery.slow import BusyShare
    from trainer.run import Run
    from trainer.watch import Watch

    spent: dict[str, float] = {}

    def wrap(held: ExitStack, owner: Any, method: str, clock: Callable[[], float]) -> None:
        inner = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            began = clock()
            try:
                return inner(*arguments, **named)
            finally:
                spent[method] = spent.get(method, 0.0) + clock() - began

        held.enter_context(patch.object(owner, method, timed))

    def tell(who: str) -> None:
        (folder / f"{who}.json").write_text(json.dumps(sum(spent.values())))

    run_to_end(base_recipe(folder), 1, folder / "base.txt")
    recipe = recipe_of(LAYOUTS[1], folder / "run", folder)
    quiet = {"every": 0, "sample_every": 0, "prompts": ()}
    recipe = recipe.model_copy(
        update={
            "steps": steps,
            "checkpoint": recipe.checkpoint.model_copy(update={"every": 0}),
            "evaluate": recipe.evaluate.model_copy(update=quiet),
        }
    )
    with ExitStack() as held:
        for owner, method in (
            *((Watch, "begin_step"), (Watch, "end_step"), (FinishedSteps, "read")),
            *((Heartbeat, "beat"), (BusyShare, "_look"), (Watch, "__exit__")),
        ):
            wrap(held, owner, method, time.thread_time)
        wrap(held, RunOverseer, "look", time.process_time)
        close, look = Run.close, RunOverseer.look

        def closing(run: Run) -> None:
            tell(f"rank {os.environ['RANK']}")
            close(run)

        def looking(overseer: RunOverseer, *rest: Any) -> None:
            look(overseer, *rest)
            tell("launcher")

        held.enter_context(patch.object(Run, "close", closing))
        held.enter_context(patch.object(RunOverseer, "look", looking))
        run_to_end(recipe, LAYOUTS[1].ranks, folder / "screen.txt")
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("[rl]*[0-9r].json")}


if __name__ == "__main__":
    main()
