"""Goodput: a run's useful time over its wall time, from its first start to now, and the losses.

Useful is what a step takes between its data and its end, of steps that were applied and that no
earlier start had made: all else has a name. The term is from "ML Goodput" as cluster operators use
it; the time is the first rank's.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BEGAN = "LYCEUM_BEGAN"
"""Environment variable: when this start began, by the machine's monotonic clock, in seconds."""

LOSSES = (
    *("down", "imports", "start", "load", "compile", "data_wait", "replay", "skipped"),
    *("rolled_back", "evaluation", "save_stall", "other"),
)
"""down: between two starts. start: from the ranks' beginning to their first step, without load,
which reads weights. compile: what a first step takes more than those behind it, where the recipe
compiles. replay: steps that an earlier start had made. rolled_back: steps of this start from which
the run went back. other: what has no name of its own."""

_USEFUL = ("counting", "forward and backward", "update")
_NAMED = {
    "start": "start",
    "load": "load",
    "data": "data_wait",
    "evaluation": "evaluation",
    "generation": "evaluation",
    "save": "save_stall",
}
_FIRST = 6
"""Steps after which it is known how much longer the first one took."""
_KEPT = 50_000
"""Steps whose seconds are remembered, for a run that goes back."""


@dataclass
class Ledger:
    """Seconds of all starts so far: `wall` is `useful` and all of `lost`."""

    wall: float = 0.0
    useful: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_status(cls, status: Mapping[str, Any] | None, now: float) -> "Ledger":
        """What status.json has of earlier starts, with the time since as `down`; empty without.

        `now`: by the wall clock. A run that was done was not down while nobody wanted more of it.
        """
        known = (status or {}).get("goodput")
        if status is None or not isinstance(known, Mapping):
            return cls()
        try:
            ledger = cls(
                float(known["wall_seconds"]),
                float(known["useful_seconds"]),
                {str(name): float(lost) for name, lost in known["lost_seconds"].items()},
            )
            down = max(0.0, now - float(known["at"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()
        if status.get("state") != "done":
            ledger.wall += down
            ledger.lost["down"] = ledger.lost.get("down", 0.0) + down
        return ledger

    @property
    def fraction(self) -> float:
        """Useful over wall time."""
        return self.useful / self.wall if self.wall > 0 else 0.0

    def as_json(self, now: float) -> dict[str, Any]:
        """As status.json has it; `now`: by the wall clock."""
        return {
            "fraction": round(self.fraction, 4),
            "wall_seconds": round(self.wall, 3),
            "useful_seconds": round(self.useful, 3),
            "lost_seconds": {name: round(lost, 3) for name, lost in self.lost.items() if lost},
            "at": now,
        }


class Goodput:
    """Counts this start's time on top of the earlier ones', by the phases of a heartbeat.

    `before`: the earlier starts; `began`: when this one did, `entered`: when this process could
    (both monotonic); `replayed`: the last step that an earlier start had made; `compiles`: whether
    the first step does.
    """

    def __init__(
        self, before: Ledger, began: float, entered: float, replayed: int, compiles: bool
    ) -> None:
        self._before, self._began = before, began
        self._imports = max(0.0, entered - began)
        self._replayed, self._compiles = replayed, compiles
        self._made = 0.0
        self._steps: dict[int, float] = {}
        self._first: list[float] = []
        self._wasted = {"replay": 0.0, "skipped": 0.0, "compile": 0.0, "rolled_back": 0.0}
        self._applied: dict[int, float] = {}

    def made(self, step: int, phases: Mapping[str, float]) -> None:
        """Take a step that was made; `phases`: seconds in each phase since this start."""
        useful = _useful(phases)
        seconds, self._made = useful - self._made, useful
        self._steps[step] = seconds
        if self._compiles and len(self._first) < _FIRST:
            self._first.append(seconds)
            if len(self._first) == _FIRST:
                later = statistics.median(self._first[1:])
                self._wasted["compile"] = max(0.0, self._first[0] - later)

    def read(self, step: int, skipped: bool) -> None:
        """Take whether a step that was made was skipped."""
        seconds = self._steps.pop(step, 0.0)
        if step <= self._replayed:
            self._wasted["replay"] += seconds
        elif skipped:
            self._wasted["skipped"] += seconds
        else:
            self._applied[step] = seconds
            if len(self._applied) > _KEPT:
                del self._applied[next(iter(self._applied))]

    def rolled_back(self, step: int) -> None:
        """Take that the run went back to a step: what was made behind it is lost."""
        behind = [one for one in (*self._applied, *self._steps) if one > step]
        lost = (self._applied.pop(one, 0.0) + self._steps.pop(one, 0.0) for one in behind)
        self._wasted["rolled_back"] += sum(lost)

    def ledger(self, phases: Mapping[str, float], now: float) -> Ledger:
        """The seconds so far; `now`: by the monotonic clock."""
        lost = dict(self._before.lost)

        def lose(name: str, seconds: float) -> None:
            lost[name] = lost.get(name, 0.0) + seconds

        wall = now - self._began
        useful = _useful(phases) - sum(self._wasted.values())
        lose("imports", self._imports)
        for phase, name in _NAMED.items():
            lose(name, phases.get(phase, 0.0))
        for name, seconds in self._wasted.items():
            lose(name, seconds)
        lose("other", max(0.0, wall - self._imports - sum(phases.values())))
        return Ledger(self._before.wall + wall, self._before.useful + useful, lost)


def _useful(phases: Mapping[str, float]) -> float:
    return sum(phases.get(phase, 0.0) for phase in _USEFUL)
