"""How long ranks may make no progress before one of them counts as frozen."""

import statistics
from collections import deque
from collections.abc import Iterable, Mapping

from trainer.recipe.checkpoint import RecoverySection
from trainer.recovery.heartbeat import LOADING, STARTING, Beat

SLOWER = 5
"""By how much longer than in a measured step a rank may show no progress elsewhere: in its first
step, which may compile, while it waits for data, which may come from afar, and behind a step."""
_MEASURED = ("counting", "forward and backward", "update")
_WINDOW = 64
_IDLE_SHARE = 0.02


class Patience:
    """Watches beats, by rank, and says how long the silence is and may be.

    The clock is the caller's, in seconds. `median`: of the last steps' seconds, 0 before two.
    """

    def __init__(self, recovery: RecoverySection, now: float) -> None:
        self._recovery = recovery
        self._beats: dict[int, Beat] = {}
        self._progress, self._cpu = now, 0.0
        self._stepped: tuple[int, float] | None = None
        self._steps: deque[float] = deque(maxlen=_WINDOW)

    @property
    def median(self) -> float:
        """Seconds of a step, the median of the last ones."""
        return statistics.median(self._steps) if self._steps else 0.0

    @property
    def last_progress(self) -> float:
        """When a beat changed last."""
        return self._progress

    def observe(self, beats: Mapping[int, Beat], cpu_seconds: float, now: float) -> None:
        """Take the ranks' beats, and the CPU time that they have used so far."""
        if dict(beats) != self._beats:
            self._progress, self._cpu = now, cpu_seconds
        self._beats = dict(beats)
        step = min(beat.step for beat in beats.values())
        if self._stepped is None or step != self._stepped[0]:
            if self._stepped is not None and 0 < self._stepped[0] < step:
                self._steps.append((now - self._stepped[1]) / (step - self._stepped[0]))
            self._stepped = step, now

    def allowed(self, cpu_seconds: float, now: float, stopped: bool = False) -> float:
        """How long there may be no progress just now, in seconds.

        `stopped`: a process is stopped, which no work explains. What computes outside of a measured
        step may take any time, and so may a start: a corpus may be built.
        """
        most = max(self._recovery.patience_seconds, self._recovery.patience * self.median)
        if stopped:
            return most
        phases = _phases(self._beats.values())
        if phases & {STARTING, LOADING}:
            return float("inf")
        if self._steps and phases <= set(_MEASURED):
            return most
        idle = _IDLE_SHARE * (now - self._progress) * len(self._beats)
        return float("inf") if cpu_seconds - self._cpu > idle else SLOWER * most


def _phases(beats: Iterable[Beat]) -> set[str]:
    return {beat.phase for beat in beats}
