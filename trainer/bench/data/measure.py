"""One contestant at a time, each in a process of its own, with the CPU time of all its workers."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from trainer.errors import DataError


@dataclass(frozen=True)
class ContestantResult:
    """What one contestant did in each repeat: the same amount, in these seconds."""

    name: str
    amount: int
    """Tokens, or bytes of text."""
    cpu_seconds: tuple[float, ...]
    wall_seconds: tuple[float, ...]

    @property
    def per_cpu_second(self) -> float:
        """The median repeat's amount a CPU-second, of all processes together."""
        return self.amount / statistics.median(self.cpu_seconds)

    @property
    def per_wall_second(self) -> float:
        """The median repeat's amount a second of wall time."""
        return self.amount / statistics.median(self.wall_seconds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median of the CPU time."""
        times = self.cpu_seconds
        return (max(times) - min(times)) / statistics.median(times)


Contestant = Callable[[Any], Callable[[], int]]


def measure(
    contestants: dict[str, Contestant], workload: Any, repeats: int
) -> list[ContestantResult]:
    """Run each contestant `repeats` times, in rounds, so that a busy minute hits all alike.

    Raises DataError naming the contestant that failed.
    """
    runs: dict[str, list[tuple[int, float, float]]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, contestant in contestants.items():
            runs[name].append(_alone(name, contestant, workload))
    return [_throughput(name, results) for name, results in runs.items()]


def _throughput(name: str, results: Sequence[tuple[int, float, float]]) -> ContestantResult:
    amounts, cpu, wall = zip(*results, strict=True)
    assert len(set(amounts)) == 1, f"{name} did {amounts}: every repeat does the same"
    return ContestantResult(name, amounts[0], cpu, wall)


def _alone(name: str, contestant: Contestant, workload: Any) -> tuple[int, float, float]:
    """Amount, CPU seconds and wall seconds of one run in a fresh process."""
    # Spawned: no checksum remembered, no memory warmed, no thread inherited.
    context = multiprocessing.get_context("spawn")
    method = multiprocessing.get_start_method()
    try:
        with ProcessPoolExecutor(1, context) as pool:
            return pool.submit(_run, contestant, workload, method).result()
    except Exception as error:
        raise DataError(f"bench data: {name}: {type(error).__name__}: {error}") from error


def _run(contestant: Contestant, workload: Any, method: str) -> tuple[int, float, float]:
    # Workers start as they do in a training process, and not as this one did.
    multiprocessing.set_start_method(method, force=True)
    work = contestant(workload)
    cpu, wall = cpu_seconds(), time.perf_counter()
    amount = work()
    # A worker's time is known once it has ended.
    for child in multiprocessing.active_children():
        child.join()
    return amount, cpu_seconds() - cpu, time.perf_counter() - wall


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
