"""What the gates of `lyceum evaluate` compare with: a base's figures, over the same items."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.errors import RecipeError
from trainer.evaluate.evaluation_report import figures_in
from trainer.evaluate.examination import PreparedSuite
from trainer.evaluate.intervals import Figure
from trainer.evaluate.run_suites import (
    BASE,
    EVALUATIONS,
    difference_from,
    figures_of,
    stored_results,
    stored_suites,
)
from trainer.recipe.gates import Gate

_MEND = "give the --json of an evaluation of that model as --base"


def base_of_report(
    gates: Sequence[Gate], file: Path, settings: Mapping[str, Any]
) -> dict[str, Figure]:
    """The figures in a report for the gates that compare; as of `figures_in`, {} without any."""
    return figures_in(file, settings) if _compared(gates) else {}


def base_of_run(gates: Sequence[Gate], run: Path) -> dict[str, Figure]:
    """The figures that a run has stored of its base, by SUITE/FIGURE; {} where no gate compares.

    Raises RecipeError where it has not stored one that a gate compares with.
    """
    if not (compared := _compared(gates)):
        return {}
    found = figures_of(stored_results(run / EVALUATIONS / BASE))
    if missing := [gate for gate in compared if gate.name not in found]:
        raise RecipeError(
            f"--gate {missing[0].text!r}: {run} has stored no {missing[0].name} of the model"
            f" that it started from; {_MEND}"
        )
    return found


def require_same_items(
    gates: Sequence[Gate], run: Path, prepared: Mapping[str, PreparedSuite]
) -> None:
    """Raise RecipeError where a run's base was measured over other items than are `prepared`."""
    folder = run / EVALUATIONS / BASE
    stored = stored_suites(folder)
    for gate in _compared(gates):
        suite = prepared.get(gate.suite)
        if suite is None or gate.suite not in stored:
            continue
        if differing := difference_from(stored[gate.suite], suite):
            older = stored[gate.suite]["settings"].get("rules") != suite.suite.rules
            mend = "" if older else "measure this model as the run's evaluate section says, or "
            raise RecipeError(f"--gate {gate.text!r}: {folder} is of {differing}; {mend}{_MEND}")


def _compared(gates: Sequence[Gate]) -> list[Gate]:
    return [gate for gate in gates if gate.within is not None]
