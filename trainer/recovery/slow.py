"""Which rank the others wait for: by how much of its time each spends outside of collectives.

In a step that all ranks make together, those that are quick wait, and the slow one does not. A
thread looks now and then at what the main thread is in; no collective is wrapped, and at every
layout the same holds: replicas, stages of a pipeline, parts of a matrix. On a GPU the host runs
ahead of what the device does, and this says nothing of it.
"""

import math
import statistics
import threading
from collections import deque
from collections.abc import Callable, Sequence

from trainer.recovery.stacks import collective_of, frames_of_main_thread

_EVERY_SECONDS = 0.05
_WINDOW = 400
_LEAST = 60
"""Looks without which nothing is said: three seconds."""
_IDLE = 0.02
"""A rank that is hardly ever seen at work counts as working so much."""


def in_collective() -> bool:
    """Whether the main thread waits for other ranks just now."""
    return collective_of(frames_of_main_thread()) is not None


class BusyShare:
    """A context in which a thread looks whether this rank works or waits for others."""

    def __init__(self, waits: Callable[[], bool] = in_collective) -> None:
        self._waits = waits
        self._seen: deque[bool] = deque(maxlen=_WINDOW)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="busy-share")

    def __enter__(self) -> "BusyShare":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            self._seen.append(not self._waits())

    def share(self) -> float:
        """The part of the last 20 seconds in which it worked; NaN while that is not known."""
        seen = list(self._seen)
        return sum(seen) / len(seen) if len(seen) >= _LEAST else math.nan


def slowest(shares: Sequence[float], factor: float) -> tuple[int, float] | None:
    """(rank, by which factor it is busier than the median of the others), None where none is by
    `factor`, or where a share is not known.
    """
    if len(shares) < 2 or any(map(math.isnan, shares)):
        return None
    rank = max(range(len(shares)), key=lambda one: shares[one])
    others = statistics.median(share for one, share in enumerate(shares) if one != rank)
    found = shares[rank] / max(others, _IDLE)
    return (rank, found) if found >= factor else None
