"""Whether the figures of an examination pass their gates, and by how much.

The figure itself decides, not its interval: a verdict must not depend on how many items a suite
was given, and a limit that is to hold with confidence can be set lower. What the interval says of
the verdict is said beside it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.errors import RecipeError
from trainer.evaluate.intervals import Figure
from trainer.recipe.gates import OPERATORS, Gate
from trainer.recipe.reading import close_name

if TYPE_CHECKING:
    from trainer.evaluate.suite_result import SuiteResult


@dataclass(frozen=True)
class GateVerdict:
    """Whether a gate is passed, and `line`: the figure, its 95% interval, the limit, by how much.

    `beyond`: how far the figure is on the wrong side of the limit, in its own unit; negative where
    it is on the right one, NaN where it cannot be said.
    """

    gate: Gate
    passed: bool
    beyond: float
    line: str


def check_gates(
    gates: Sequence[Gate], results: Mapping[str, "SuiteResult"], base: Mapping[str, Figure]
) -> list[GateVerdict]:
    """The verdict on each gate; `results` by suite, figures of the `base` by SUITE/FIGURE.

    A figure that no item counted for, or that is not defined, passes no gate; nor does one of a
    suite that found the model diverged, since it is over the items that this has spared.
    """
    return [_verdict(gate, results.get(gate.suite), base.get(gate.name)) for gate in gates]


def require_figures(
    gates: Sequence[Gate], known: Mapping[str, Collection[str]], source: str
) -> None:
    """Raise RecipeError for a gate on a figure that no suite gives; `known`: figures by suite.

    `source`: where the gates stand, as evaluate.gates.
    """
    for gate in gates:
        require_figure(gate.suite, gate.figure, known, f"{source}: {gate.text!r}")


def require_figure(
    suite: str, figure: str, known: Mapping[str, Collection[str]], source: str
) -> None:
    """Raise RecipeError, which begins with `source`, unless the suite gives the figure."""
    if suite not in known:
        near = close_name(suite, known)
        mend = f"did you mean {near}?" if near else f"measured are {', '.join(known)}"
        raise RecipeError(f"{source}: the suite {suite} is not measured; {mend}")
    if figure not in known[suite]:
        near = close_name(figure, known[suite])
        mend = f"did you mean {near}?" if near else f"it gives {', '.join(known[suite])}"
        raise RecipeError(f"{source}: the suite {suite} gives no figure {figure}; {mend}")


def _verdict(gate: Gate, result: "SuiteResult | None", base: Figure | None) -> GateVerdict:
    figure = None if result is None else result.figures.get(gate.figure)
    failures = "" if result is None else result.failures
    if figure is None:
        # More items would fail as those did.
        why = failures or "no item counts for it; a higher limit asks more"
        return GateVerdict(gate, False, math.nan, f"{gate.name} was not measured: {why}")
    if not math.isfinite(figure.value):
        line = (
            f"{gate.name} is not defined over its {figure.items:,} items: too few, or too alike; a"
            " higher limit asks more"
        )
        return GateVerdict(gate, False, math.nan, line)
    if result is not None and result.diverged:
        line = f"{_shown(gate.name, figure)} over what is left: {failures}"
        return GateVerdict(gate, False, math.nan, line)
    if gate.within is None:
        return _beside_a_number(gate, figure)
    if base is None or not math.isfinite(base.value):
        line = f"{_shown(gate.name, figure)}, and the base's is not defined"
        return GateVerdict(gate, False, math.nan, line)
    return _beside_the_base(gate, figure, base.value)


def _beside_a_number(gate: Gate, figure: Figure) -> GateVerdict:
    assert gate.sign is not None and gate.limit is not None, "a gate without `within` has both"
    passed = OPERATORS[gate.sign](figure.value, gate.limit)
    apart = figure.value - gate.limit
    if apart:
        words = f"{'above' if apart > 0 else 'below'} {gate.limit:g} by {abs(apart):.4g}"
    else:
        words = f"just {gate.limit:g}" + ("" if passed else f", and asked is {gate.sign}")
    beyond = apart if gate.sign in ("<", "<=") else -apart
    line = f"{_shown(gate.name, figure)}, {words}{_doubt(figure, gate.limit)}"
    return GateVerdict(gate, passed, beyond, line)


def _beside_the_base(gate: Gate, figure: Figure, base: float) -> GateVerdict:
    """No worse than the base by more than the fraction; where neither way is good, both count."""
    assert gate.within is not None, "the caller has looked"
    allowed, apart = gate.within * abs(base), figure.value - base
    worse = {"lower": apart, "higher": -apart, None: abs(apart)}[figure.better]
    limit = base - allowed if figure.better == "higher" else base + allowed
    if figure.better is None:
        side = "above" if apart > 0 else "below"
        limit = base + math.copysign(allowed, apart)
    else:
        side = "worse than" if worse > 0 else "better than"
    distance = f"{abs(apart / base):.2%}" if base else f"{abs(apart):.4g}"
    words = f"{distance} {side} the base's {base:.4g}" if apart else f"just the base's {base:.4g}"
    line = f"{_shown(gate.name, figure)}, {words}{_doubt(figure, limit)}"
    passed = worse <= allowed
    if not passed:
        line += f"; allowed is {100 * gate.within:g}%"
    return GateVerdict(gate, passed, worse - allowed, line)


def _shown(name: str, figure: Figure) -> str:
    interval = ""
    if math.isfinite(figure.low) and math.isfinite(figure.high):
        interval = f" [{figure.low:.4g}, {figure.high:.4g}]"
    return f"{name} is {figure.value:.4g}{interval}"


def _doubt(figure: Figure, limit: float) -> str:
    """That other items could have turned the verdict, where they could."""
    within = figure.low <= limit <= figure.high and figure.low < figure.high
    return " (within its interval)" if within else ""
