"""The learning rate of each step, a pure function of the recipe and the step."""

import math

from trainer.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate used by optimizer step `step` (from 1).

    Linear warmup to optimizer.lr, then: `cosine` down to floor * lr at schedule.length (Loshchilov
    & Hutter 2017); `wsd` constant, then linear down to floor * lr over the last `decay` steps (Hu
    et al. 2024); `constant` stays. Steps beyond the length keep the last rate.
    """
    section, peak = recipe.schedule, recipe.optimizer.lr
    if step <= section.warmup:
        return peak * step / section.warmup
    length = section.length or recipe.steps
    lowest = section.floor * peak
    if section.name == "cosine":
        progress = _progress(step, section.warmup, length)
        return lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * progress))
    if section.name == "wsd":
        decay = section.decay if section.decay is not None else max(1, length // 5)
        return peak - (peak - lowest) * _progress(step, length - decay, length)
    return peak


def _progress(step: int, start: int, end: int) -> float:
    """How far `step` has come from `start` to `end`, between 0 and 1."""
    if end <= start:
        return 1.0
    return min(max((step - start) / (end - start), 0.0), 1.0)
