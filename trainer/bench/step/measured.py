"""A few steps of our loop, as `lyceum train` runs it, on made tokens, under the profiler."""

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from trainer.bench.step.attribute import Attribution, attribute
from trainer.bench.step.ranges import PREFIX, WINDOW, ranges
from trainer.bench.step.trace import read_trace
from trainer.bench.timing import short_recipe
from trainer.bench.tokens import made_recipe
from trainer.data.batch import Batch
from trainer.files import write_output
from trainer.loop import train
from trainer.plan.part import StepPart
from trainer.recipe import Recipe
from trainer.run import Run

WARM_UP, TIMED, PROFILED = 3, 5, 1
"""Steps before anything is measured, those whose time is taken, and those that are profiled."""


@dataclass(frozen=True)
class Measured:
    """What the steps took."""

    step_seconds: float
    """A step without the profiler, the mean of TIMED."""
    profiled_step_seconds: float
    """And with it: its own cost is the difference."""
    steps: int
    """Profiled ones."""
    attribution: Attribution

    @property
    def idle_share(self) -> float:
        """The device's idle share of a step without the profiler, were its kernels as quick."""
        busy = self.attribution.union_seconds / self.steps
        return max(0.0, 1.0 - busy / self.step_seconds)


def measure_step(
    recipe: Recipe, device: torch.device, parts: tuple[StepPart, ...], trace_file: Path | None
) -> Measured:
    """Train for some steps, and say where the time of the last went.

    `parts`: the predicted ones, whose shapes name the products of compiled layers; `trace_file`:
    where the trace is kept. Raises what training raises.
    """
    steps = WARM_UP + TIMED + PROFILED
    with tempfile.TemporaryDirectory(prefix="lyceum-bench-") as folder:
        # One more, at whose beginning the last profiled step is over.
        made = made_recipe(recipe, Path(folder) / "tokens", steps + 1)
        short = short_recipe(made, Path(folder) / "run", steps + 1).replaced({"init_from": None})
        kept = Path(folder) / "trace.json"
        window = _Window(device, kept, compiled=recipe.kernels.compile != "none")
        with contextlib.redirect_stdout(io.StringIO()), _told_of_steps(window):
            train(short)
        content = kept.read_text(encoding="utf-8")
    write_output(trace_file, content)
    attribution = attribute(read_trace(json.loads(content)["traceEvents"]), parts)
    return Measured(
        step_seconds=window.step_seconds,
        profiled_step_seconds=attribution.window_seconds / PROFILED,
        steps=PROFILED,
        attribution=attribution,
    )


class _Window:
    """Told of each step's beginning, it times some steps and profiles those that follow."""

    def __init__(self, device: torch.device, trace_file: Path, compiled: bool) -> None:
        self._device = torch.get_device_module(device)
        self._trace_file = trace_file
        self._compiled = compiled
        self._begun = 0
        self._started = 0.0
        self._held = ExitStack()
        self.step_seconds = 0.0
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile: Any = profile(activities=activities, record_shapes=compiled)

    def begin_step(self, run: Run) -> None:
        """The device is waited for at the borders only, which are outside all that is timed."""
        done, self._begun = self._begun, self._begun + 1
        if done == WARM_UP:
            self._device.synchronize()
            self._started = time.perf_counter()
        elif done == WARM_UP + TIMED:
            self._device.synchronize()
            self.step_seconds = (time.perf_counter() - self._started) / TIMED
            self._profile.start()
            self._held.enter_context(ranges(run.chunks, self._compiled))
            self._held.enter_context(record_function(WINDOW))
        elif done == WARM_UP + TIMED + PROFILED:
            self._device.synchronize()
            self._held.close()
            self._profile.stop()
            self._profile.export_chrome_trace(str(self._trace_file))


@contextmanager
def _told_of_steps(window: _Window) -> Iterator[None]:
    """A step of the loop begins with asking for its batch."""
    plain = Run.next_batch

    def next_batch(run: Run) -> Batch:
        window.begin_step(run)
        with record_function(f"{PREFIX}next_batch"):
            return plain(run)

    Run.next_batch = next_batch  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Run.next_batch = plain  # type: ignore[method-assign]
