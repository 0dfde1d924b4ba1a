"""Throughput of training, model FLOP utilization, and memory."""

import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.plan.devices import GIB, peak_flops
from trainer.plan.size import flops_per_token

if TYPE_CHECKING:
    from trainer.recipe import LoraSection, ModelSection


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int = 512) -> float:
    """Measured FLOP/s of a [size, size] matrix product: the best of five, after one to warm up."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:])


class Throughput:
    """Computes the rates in a step's record from its tokens and seconds.

    `model`, `sequence_length`, `vocab`, `lora`: for the FLOPs a token; `device`: for its peak
    FLOP/s.
    """

    def __init__(
        self,
        model: "ModelSection",
        sequence_length: int,
        vocab: int,
        world_size: int,
        device: torch.device,
        lora: "LoraSection | None" = None,
    ) -> None:
        self._flops = flops_per_token(model, sequence_length, vocab, lora)
        self._world_size = world_size
        self._peak = peak_flops(device)

    def rates(self, tokens: int, step_seconds: float) -> dict[str, float | None]:
        """tokens_per_second over all ranks, tflops_per_device, and mfu (None: peak unknown).

        `tokens`: of the global batch, without padding; `step_seconds`: of the whole step.
        """
        rate = tokens / step_seconds
        flops = rate * self._flops / self._world_size
        return {
            "tokens_per_second": rate,
            "tflops_per_device": flops / 1e12,
            "mfu": flops / self._peak if self._peak else None,
        }


def memory_gib(device: torch.device) -> float:
    """This rank's memory in GiB: on a GPU the peak allocated, on the CPU the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the largest resident set so far, in KiB (in bytes on macOS)
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest * (1 if sys.platform == "darwin" else 1024) / GIB
    return pages * os.sysconf("SC_PAGE_SIZE") / GIB
