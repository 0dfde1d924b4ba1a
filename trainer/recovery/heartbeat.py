"""What a rank is doing, where the process that started it can see it at any time.

A rank writes its phase and step into a small file that is mapped into memory: no system call, and
what was written stays when the rank is killed.
"""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT_FILE = "LYCEUM_HEARTBEAT_FILE"
"""Environment variable: the file that the starting process made for this rank's heartbeat."""

_FORM = struct.Struct("<QQ32sQ")
STARTING = "start"
LOADING = "load"
"""The phases of a rank before its first step: that in which it reads weights, and the rest."""


@dataclass(frozen=True)
class Beat:
    """A rank's last sign: `count` grows with each; `step`: the one it works at, or has done;
    `first`: the first of them since it began, 0 before.
    """

    count: int
    step: int
    phase: str
    first: int = 0

    @property
    def stepped(self) -> bool:
        """Whether it has made a step for sure; its first sign may be of the step before those."""
        return self.first > 0 and self.step > self.first + 1

    @property
    def where(self) -> str:
        """For a sentence: "in its start", "in forward_backward of step 7"."""
        if self.phase in (STARTING, LOADING):
            return f"in its {self.phase}"
        return f"in {self.phase} of step {self.step}"


class Heartbeat:
    """This rank's phase and step; seen by the process that started it, where one looks.

    `phase` and `step` are those of the last `beat`; `entered`: when this was made, monotonic.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._count = self._first = 0
        self.step, self.phase = 0, STARTING
        self.entered = self._since = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._map: mmap.mmap | None = None
        if path is not None:
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), _FORM.size)

    @classmethod
    def of_environment(cls) -> "Heartbeat":
        """That of a rank started by `launch`; one that nobody sees in any other process."""
        path = os.environ.get(HEARTBEAT_FILE)
        return cls(Path(path) if path and Path(path).is_file() else None)

    def beat(self, phase: str, step: int) -> None:
        """Say what comes now: a phase of step `step`, from 1."""
        now = time.monotonic()
        self._seconds[self.phase] = self._seconds.get(self.phase, 0.0) + now - self._since
        self._since = now
        self._count += 1
        self._first = self._first or step
        self.phase, self.step = phase, step
        if self._map is not None:
            _FORM.pack_into(self._map, 0, self._count, step, phase.encode()[:32], self._first)

    def now(self) -> Beat:
        """The last beat."""
        return Beat(self._count, self.step, self.phase, self._first)

    def seconds(self) -> dict[str, float]:
        """Seconds in each phase since this rank began, the present one included."""
        present = time.monotonic() - self._since
        return self._seconds | {self.phase: self._seconds.get(self.phase, 0.0) + present}

    def again(self) -> None:
        """Say that the same phase goes on."""
        self.beat(self.phase, self.step)


def make_heartbeat_file(path: Path) -> None:
    """Make the file for a rank's heartbeat; raises OSError (disk full)."""
    path.write_bytes(_FORM.pack(0, 0, STARTING.encode(), 0))


def read_heartbeat(path: Path) -> Beat:
    """A rank's last beat."""
    count, step, phase, first = _FORM.unpack(path.read_bytes()[: _FORM.size])
    return Beat(count, step, phase.rstrip(b"\0").decode(errors="replace"), first)
