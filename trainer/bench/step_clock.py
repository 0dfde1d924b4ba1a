"""The clock of the training benchmarks: it never makes the host wait between two steps."""

import gc
from itertools import pairwise

import torch

from trainer.parallel.device import Moment


class StepClock:
    """Marks between steps: on a GPU they are queued behind the work before them.

    What lies between two marks is what the device needed, gaps in which it waited for the host
    included.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Moment] = []

    def mark(self) -> None:
        """One more border."""
        self._marks.append(Moment(self._device))

    def seconds(self) -> list[float]:
        """The time between each two neighbouring marks; waits for the device, once."""
        self._marks[-1].wait()
        return [after.seconds_since(before) for before, after in pairwise(self._marks)]


def reset_peak_memory(device: torch.device) -> None:
    """Give back what earlier runs left to the allocator, and count the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: torch.device) -> float | None:
    """The most memory that tensors held since the last reset; None where nothing counts it."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**30
