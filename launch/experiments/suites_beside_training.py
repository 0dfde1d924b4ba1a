"""What suites cost a run beside the time that they take, in CPU seconds and memory, side by side.

    python -m launch.experiments.suites_beside_training [--recipe tiny] [--rounds 5] [KEY=VALUE ...]

The same run is trained by turns with its suites and without, in this one process. Printed are, a
round, the CPU seconds of the run without, those of the run with less what its suites took (their
preparation before the first step, and each measurement), and their ratio; then the median ratio of
a step's own seconds (of the quickest tenth), and of the memory that the last record states.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trainer.start
from launch.local import find_recipe
from trainer.evaluate.run_suites import RunSuites
from trainer.loop import train
from trainer.recipe import Recipe, load_recipe

SUITES = ("perplexity", "occurrence", "bias", "memorisation")


class _Clock:
    """CPU seconds of what it is wrapped around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function; its CPU seconds are added."""

        def call(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.process_time() - began

        return call


@contextmanager
def _timed_suites() -> Iterator[_Clock]:
    clock = _Clock()
    prepare, measure = trainer.start.open_suites, RunSuites.measure
    trainer.start.open_suites = clock.timed(prepare)
    RunSuites.measure = clock.timed(measure)  # type: ignore[method-assign]
    try:
        yield clock
    finally:
        trainer.start.open_suites = prepare
        RunSuites.measure = measure  # type: ignore[method-assign]


def _measured(recipe: Recipe) -> tuple[float, float, float, float]:
    """CPU seconds without the suites' own, the suites' own, a step of the quickest tenth, GiB."""
    with _timed_suites() as clock:
        began = time.process_time()
        train(recipe)
        seconds = time.process_time() - began
    lines = (Path(recipe.run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    # Other work on the machine makes steps longer, never shorter.
    step = statistics.quantiles((one["step_seconds"] for one in records[1:]), n=10)[0]
    return seconds - clock.seconds, clock.seconds, step, records[-1]["memory_gib"]


def main() -> None:
    """Print the rounds and their median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    quiet = ["evaluate.every=0", "checkpoint.every=0", "checkpoint.save_final=false"]
    suites = [f"evaluate.suites=[{','.join(SUITES)}]", "evaluate.suites_every=20"]
    small = ["steps=60", "evaluate.limit=32", "observe.tensorboard=false"]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds + 1):
            rows = []
            for name, more in (("without", []), ("with", suites)):
                words = [*quiet, *small, *more, *given.overrides, f"run={folder}/{name}-{number}"]
                rows.append(_measured(load_recipe(find_recipe(given.recipe), words)))
            if number:  # the first warms up
                found.append(rows)
                without, with_suites = rows
                print(
                    f"round {number}: {without[0]:.2f} CPU-s without, {with_suites[0]:.2f} beside"
                    f" {with_suites[1]:.2f} of suites: {with_suites[0] / without[0]:.3f}",
                    flush=True,
                )
    for index, what in ((0, "CPU seconds beside suites"), (2, "a step's seconds"), (3, "memory")):
        ratios = [with_suites[index] / without[index] for without, with_suites in found]
        print(f"{what}, with over without: {statistics.median(ratios):.3f} (median of rounds)")


if __name__ == "__main__":
    main()
