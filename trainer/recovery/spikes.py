"""Loss spikes: steps whose loss or gradient norm leaves the run of the steps before it."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIGURES = ("loss", "grad_norm")
"""What is watched, by its name in metrics.jsonl."""
_ROUNDING = 1e-6
"""A deviation below this share of the mean is rounding: a figure that stands still never spikes."""


@dataclass(frozen=True)
class Spike:
    """A step whose `figure` was `value`, where the steps before had `mean` and `deviation`."""

    step: int
    figure: str
    value: float
    mean: float
    deviation: float

    @property
    def sigmas(self) -> float:
        """How many deviations above the mean."""
        return (self.value - self.mean) / self.deviation

    def __str__(self) -> str:
        return (
            f"step {self.step}: {self.figure} {self.value:.4g} is {self.sigmas:.1f} sigmas above "
            f"the {self.mean:.4g} of the steps before"
        )


class SpikeSeen(Exception):
    """Leaves the steps of a course that spiked: the run goes on from a checkpoint before."""

    def __init__(self, spike: Spike) -> None:
        super().__init__(str(spike))
        self.spike = spike


class SpikeDetector:
    """Finds steps that lie more than `sigmas` above the mean of the last `window` applied steps.

    None before the window is full, none where `sigmas` is None. The same on all ranks, as the
    figures are.
    """

    def __init__(self, sigmas: float | None, window: int) -> None:
        self._sigmas = sigmas
        self._seen = {figure: deque[float](maxlen=window) for figure in FIGURES}

    def observe(self, record: Mapping[str, Any]) -> Spike | None:
        """Take a step's record; the figure that spiked most, which does not enter the window."""
        if self._sigmas is None or record["skipped"]:
            return None
        found = [spike for figure in FIGURES if (spike := self._spike(figure, record))]
        if found:
            return max(found, key=lambda spike: spike.sigmas)
        for figure, seen in self._seen.items():
            seen.append(float(record[figure]))
        return None

    def _spike(self, figure: str, record: Mapping[str, Any]) -> Spike | None:
        seen, value = self._seen[figure], float(record[figure])
        assert self._sigmas is not None, "the caller has looked"
        if len(seen) < (seen.maxlen or 0):
            return None
        mean = statistics.fmean(seen)
        deviation = max(statistics.pstdev(seen), abs(mean) * _ROUNDING, math.ulp(0.0))
        spike = Spike(int(record["step"]), figure, value, mean, deviation)
        return spike if spike.sigmas > self._sigmas else None

    def state(self) -> dict[str, list[float]]:
        """The window, for a checkpoint's counters."""
        return {figure: list(seen) for figure, seen in self._seen.items() if seen}

    def load_state(self, state: Mapping[str, list[float]]) -> None:
        """Go on from a saved window; the newest of it where the window is shorter now."""
        for figure, seen in self._seen.items():
            seen.clear()
            seen.extend(state.get(figure, ()))
