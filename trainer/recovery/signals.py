"""Requests to stop: a signal sets a flag, the loop saves and ends at the next step's boundary."""

import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """A context in which SIGINT, SIGTERM and SIGUSR1 ask for a stop instead of killing.

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
        self._before = {number: signal.signal(number, self._handle) for number in _STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or number == signal.SIGINT
        self._requested = self._requested or signal.Signals(number)


def agree(flag: bool, group: dist.ProcessGroup | None = None) -> bool:
    """Whether any rank says so: the same answer on every rank. Collective over `group`.

    A signal reaches the ranks at different steps; acting on one's own flag alone would leave the
    others waiting in a collective.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return flag
    nccl = dist.get_backend(group) == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
    said = torch.tensor([int(flag)], dtype=torch.int32, device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX, group=group)
    return bool(said.item())
