"""The clock of the training benchmarks: it never makes the host wait between two steps."""

import gc
import statistics
from dataclasses import dataclass
from itertools import pairwise

import torch

from trainer.parallel.device import DeviceTime
from trainer.plan.devices import peak_flops
from trainer.plan.size import flops_per_token
from trainer.recipe import Recipe


class StepClock:
    """Marks between steps: on a GPU they are queued behind the work before them.

    What lies between two marks is what the device needed, gaps in which it waited for the host
    included.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[DeviceTime] = []

    def mark(self) -> None:
        """One more border."""
        self._marks.append(DeviceTime(self._device))

    def seconds(self) -> list[float]:
        """The time between each two neighbouring marks; waits for the device, once."""
        self._marks[-1].wait()
        return [after.seconds_since(before) for before, after in pairwise(self._marks)]


def reset_peak_memory(device: torch.device) -> None:
    """Give back what earlier runs left to the allocator, and count the peak anew."""
    gc.collect()
    if device.type == "cuda":
        # Nothing is counted before the device is in use, and asking then is an error.
        torch.cuda.init()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: torch.device) -> float | None:
    """The most memory that tensors held since the last reset; None where nothing counts it."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**30


WARMUP_STEPS = 5
TIMED_STEPS = 20


@dataclass(frozen=True)
class Timing:
    """One run of one loop: the median step and what it means.

    `flops_per_second` and `mfu` count operations by our formula (trainer.plan.size), whoever ran;
    `mfu` is None where the device's peak is unknown. `compile_seconds` is by how much the first
    step was longer than the median one: what is compiled, tuned or allocated once.
    """

    step_seconds: float
    tokens_per_second: float
    memory_gib: float | None
    flops_per_second: float | None = None
    mfu: float | None = None
    compile_seconds: float | None = None


def timing_of(
    recipe: Recipe,
    vocab: int,
    device: torch.device,
    seconds: list[float],
    tokens: list[int],
    memory_gib: float | None,
) -> Timing:
    """What the steps of a loop say, WARMUP_STEPS first; `tokens`: supervised ones of each."""
    timed = range(WARMUP_STEPS, len(seconds))
    step = statistics.median(seconds[n] for n in timed)
    rate = statistics.median(tokens[n] / seconds[n] for n in timed)
    flops = rate * flops_per_token(recipe.model, recipe.sequence_length, vocab, recipe.lora)
    peak = peak_flops(device)
    return Timing(
        step_seconds=step,
        tokens_per_second=rate,
        memory_gib=memory_gib,
        flops_per_second=flops,
        mfu=None if peak is None else flops / peak,
        compile_seconds=max(seconds[0] - step, 0.0),
    )
