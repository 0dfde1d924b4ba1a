"""How long a call takes on a GPU and how much memory it needs, at its median."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Call = Callable[[], object]

_FLUSHED_BYTES = 512 * 2**20
"""Written between calls, so that no input waits in the L2 cache (126 MB on B200, 50 MB on H100)."""


class Clock(Protocol):
    """What times calls; tests bring their own."""

    def seconds(self, function: Call, calls: int) -> list[float]:
        """The time of each of `calls` calls, every one with cold caches."""

    def peak_bytes(self, function: Call) -> int:
        """The most memory that one call holds beyond what was held before it."""


@dataclass(frozen=True)
class Measurement:
    """One function's calls."""

    median_seconds: float
    low_seconds: float
    """The 20% quantile."""
    high_seconds: float
    """The 80% quantile."""
    calls: int
    peak_bytes: int


def measure(
    function: Call, clock: Clock, warm_up: float = 0.05, enough: float = 0.2
) -> Measurement:
    """Call for `warm_up` seconds untimed, then for `enough` seconds, 10 to 1000 times."""
    function()  # compiles
    peak = clock.peak_bytes(function)
    estimate = max(quantile(clock.seconds(function, 5), 0.5), 1e-6)
    clock.seconds(function, max(1, round(warm_up / estimate)))
    seconds = clock.seconds(function, min(1000, max(10, round(enough / estimate))))
    return Measurement(
        median_seconds=quantile(seconds, 0.5),
        low_seconds=quantile(seconds, 0.2),
        high_seconds=quantile(seconds, 0.8),
        calls=len(seconds),
        peak_bytes=peak,
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, between neighbours by proportion."""
    return torch.tensor(values, dtype=torch.float64).quantile(share).item()


class GpuClock:
    """CUDA events around each call, a flush of L2 before it.

    All calls are queued before the first is waited for. Where the host needs longer to queue a call
    than the flush takes, the flush is repeated: else the GPU would wait inside the timed part.
    """

    def __init__(self, device: torch.device) -> None:
        self._cache = torch.empty(_FLUSHED_BYTES, dtype=torch.int8, device=device)
        self._flush_seconds = self._flushing(10)

    def seconds(self, function: Call, calls: int) -> list[float]:
        """The time of each call."""
        flushes = max(1, math.ceil(1.5 * self._host_seconds(function) / self._flush_seconds))
        starts, ends = ([_event() for _ in range(calls)] for _ in range(2))
        torch.cuda.synchronize()
        for start, end in zip(starts, ends, strict=True):
            for _ in range(flushes):
                self._cache.zero_()
            start.record()
            function()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) * 1e-3 for start, end in zip(starts, ends, strict=True)]

    def peak_bytes(self, function: Call) -> int:
        """Counted by PyTorch's allocator, which hands out all memory that our operators use."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def _host_seconds(self, function: Call) -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    def _flushing(self, times: int) -> float:
        start, end = _event(), _event()
        self._cache.zero_()
        start.record()
        for _ in range(times):
            self._cache.zero_()
        end.record()
        torch.cuda.synchronize()
        return max(start.elapsed_time(end) * 1e-3 / times, 1e-6)


class HostClock:
    """The host's clock around each call: for a CPU, where a call has ended when it returns."""

    def seconds(self, function: Call, calls: int) -> list[float]:
        """The time of each call, with caches as the one before left them."""
        times = []
        for _ in range(calls):
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
        return times

    def peak_bytes(self, function: Call) -> int:
        """0: not counted."""
        return 0


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def clock_of(device: torch.device) -> Clock:
    """What times calls on the device."""
    return GpuClock(device) if device.type == "cuda" else HostClock()
