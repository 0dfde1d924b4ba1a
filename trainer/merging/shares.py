"""How much of each checkpoint goes into a merged one."""

import math
from collections.abc import Sequence

from trainer.errors import RecipeError


def shares_of(weights: Sequence[float] | None, count: int) -> list[float]:
    """Each checkpoint's share of `count`, which sum to 1; `weights`: in any unit, None: equal.

    One below 0 extrapolates: away from that checkpoint. Raises RecipeError for fewer than two
    checkpoints, another number of weights, and weights that do not sum to more than 0.
    """
    if count < 2:
        raise RecipeError(
            f"checkpoint merge: {count} checkpoint{'' if count == 1 else 's'} to merge; name two or"
            " more"
        )
    if weights is None:
        return [1.0 / count] * count
    if len(weights) != count:
        raise RecipeError(
            f"--weights: {len(weights)} for {count} checkpoints; give one for each, in their order"
        )
    try:
        total = math.fsum(weights)
    except OverflowError:  # weights near the end of a float's range
        total = math.inf
    if not math.isfinite(total) or total <= 0:
        raise RecipeError(
            f"--weights: they sum to {total:g}, and are divided by their sum; give weights that sum"
            " to more than 0"
        )
    return [weight / total for weight in weights]


def what_is_notable(weights: Sequence[float] | None, shares: Sequence[float]) -> list[str]:
    """Lines that say where the shares are not the weights that were given, or below 0."""
    lines = []
    if weights is not None and not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-9):
        given, made = (", ".join(f"{one:.6g}" for one in each) for each in (weights, shares))
        lines.append(f"weights {given} are divided by their sum {math.fsum(weights):g}: {made}")
    if min(shares) < 0:
        lines.append(f"weights below 0 extrapolate: {min(shares):.6g} leads away from a checkpoint")
    return lines
