"""Requests to stop: a signal sets a flag, the loop saves and ends at the next step's boundary."""

import signal
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""The signals that ask a run to stop: CTRL-C, a scheduler's two, and a terminal that is gone."""


def heeded() -> tuple[signal.Signals, ...]:
    """Those of STOPPING that this process listens to: under nohup a hang-up is ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in STOPPING if not (ignored and number == signal.SIGHUP))


class StopSignals:
    """A context in which SIGINT, SIGTERM, SIGUSR1 and SIGHUP ask for a stop instead of killing.

    The second SIGINT raises KeyboardInterrupt at once, for a person who won't wait for the save.
    The handlers before it come back at the end. Main thread only (a rule of Python's signals).
    """

    def __init__(self) -> None:
        self._requested: signal.Signals | None = None
        self._interrupted = False
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> str | None:
        """The name of the signal that asked first, such as "SIGTERM"; None: go on."""
        return self._requested.name if self._requested else None

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._handle) for number in heeded()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or number == signal.SIGINT
        self._requested = self._requested or signal.Signals(number)
