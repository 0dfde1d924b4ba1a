"""Device timestamps, and step metrics copied to the host without stalling the newest step."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


def runs_ahead(device: torch.device) -> bool:
    """Whether the device runs asynchronously to the host; the CPU does not."""
    return device.type != "cpu"


class DeviceTime:
    """A timestamp in the device's stream: reached once all work queued before it is done."""

    def __init__(self, device: torch.device) -> None:
        self._host_seconds = time.perf_counter()
        self._event: torch.cuda.Event | None = None
        if runs_ahead(device):
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Block the host until the device has reached it."""
        if self._event is not None:
            self._event.synchronize()

    def seconds_since(self, earlier: "DeviceTime") -> float:
        """Seconds on the device from `earlier` to this one; both must have been reached."""
        if self._event is None:
            return self._host_seconds - earlier._host_seconds
        assert earlier._event is not None, "two moments of one device"
        return float(earlier._event.elapsed_time(self._event)) * 1e-3


class Readback(Generic[_T]):
    """Metrics of steps, copied to the host as each step is queued and read later, in order.

    An asynchronous device always has a whole step queued while the host reads: the newest step is
    not waited for, and the others are read together once `every` of them are pending. All ranks
    read at the same steps. `lag`: how many of the newest steps are not waited for (None: 1 on an
    asynchronous device, 0 on the CPU).
    """

    def __init__(self, device: torch.device, every: int = 1, lag: int | None = None) -> None:
        self._device = device
        self._every = every
        self._lag = int(runs_ahead(device)) if lag is None else lag
        self._pending: deque[tuple[_T, list[str], Tensor, DeviceTime]] = deque()

    def push(self, note: _T, numbers: Mapping[str, Tensor]) -> None:
        """Queue the copy of `numbers`, [] each, as fp64; `note`: anything, returned with them."""
        together = torch.stack(
            [n.detach().to(self._device, torch.float64) for n in numbers.values()]
        )
        # From a GPU this goes to pinned memory, whose copy the host need not wait for.
        copied = together.to("cpu", non_blocking=True)
        self._pending.append((note, list(numbers), copied, DeviceTime(self._device)))

    def pop(self, everything: bool = False) -> Iterator[tuple[_T, dict[str, float], DeviceTime]]:
        """The steps that are due, oldest first: (note, numbers, when the device finished them).

        `everything`: also the newest, which blocks the host until the device has finished it.
        """
        lag = 0 if everything else self._lag
        if not everything and len(self._pending) < self._every + lag:
            return
        while len(self._pending) > lag:
            note, names, copied, done = self._pending.popleft()
            done.wait()
            yield note, dict(zip(names, copied.tolist(), strict=True)), done

    @property
    def newest(self) -> _T | None:
        """The note of the step that was queued last; None where all have been read."""
        return self._pending[-1][0] if self._pending else None

    def newest_numbers(self) -> dict[str, float]:
        """The numbers of the step that was queued last, not read yet, for which the host waits."""
        _, names, copied, done = self._pending[-1]
        done.wait()
        return dict(zip(names, copied.tolist(), strict=True))
