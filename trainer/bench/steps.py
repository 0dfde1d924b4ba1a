"""What the steps of a loop say of its speed, the same for every loop of a comparison."""

import statistics
from dataclasses import dataclass

import torch

from trainer.plan.devices import peak_flops
from trainer.plan.size import flops_per_token
from trainer.recipe import Recipe

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
    flops = rate * flops_per_token(recipe.model, recipe.sequence_length, vocab)
    peak = peak_flops(device)
    return Timing(
        step_seconds=step,
        tokens_per_second=rate,
        memory_gib=memory_gib,
        flops_per_second=flops,
        mfu=None if peak is None else flops / peak,
        compile_seconds=max(seconds[0] - step, 0.0),
    )
