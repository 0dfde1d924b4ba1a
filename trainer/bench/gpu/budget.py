"""Which parts the minutes of a call hold: each whole, and the first of the list before the rest."""

from collections.abc import Sequence

from trainer.bench.gpu.parts import Part

CALL_SECONDS = 10.0
"""Of a call for itself at least: describing the machine."""
REPORT_SECONDS = 1.0
"""Of a part beside its own: renewing the reports."""


def cost(parts: Sequence[Part]) -> float:
    """The seconds that these parts take together."""
    return sum(part.seconds + REPORT_SECONDS for part in parts)


def reserved_parts(parts: Sequence[Part], seconds: float) -> list[Part]:
    """The longest beginning of the list that fits; no other part takes of its time."""
    fitting = [n for n in range(len(parts) + 1) if cost(parts[:n]) <= seconds]
    return list(parts[: max(fitting, default=0)])


def allowed_seconds(part: Part, left: float, later: Sequence[Part], dry: bool) -> float | None:
    """How long the part may run in what is left of the call, without the time of `later` ones.

    Its own seconds, and as much again where that is free; where `dry`, whose parts were sized for a
    GPU, all that is free. None where it would be cut short, and is better left to another call.
    """
    free = left - cost(later) - REPORT_SECONDS
    if free < part.seconds:
        return None
    return free if dry else min(free, 2 * part.seconds)
