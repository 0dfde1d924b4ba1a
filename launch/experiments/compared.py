"""The figures of several conditions beside each other, from their records over seeds."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.experiments.over_seeds import difference_over_seeds, figure_over_seeds, read_records
from trainer.evaluate.records import file_name
from trainer.evaluate.suites.suite import Suite, SuiteContext


def compared(
    records: Mapping[str, Sequence[Path]],
    suites: Sequence[Suite],
    context: SuiteContext,
    wanted: Collection[str],
) -> dict[str, dict[str, Any]]:
    """By SUITE/FIGURE as JSON: `means`, `better`, `conditions`, and `differences` from the first.

    `records`: of each condition the folder of each seed's records, all as many; a suite that has
    nothing to ask in one of them is left out, and so is a figure that is not defined, or whose name
    is not `wanted`.
    """
    base, *others = records
    found: dict[str, dict[str, Any]] = {}
    for suite in suites:
        folders = [folder for of_seeds in records.values() for folder in of_seeds]
        if not all((one / f"{file_name(suite.name)}.jsonl").is_file() for one in folders):
            continue
        read = {
            condition: [read_records(one, suite.name) for one in of_seeds]
            for condition, of_seeds in records.items()
        }
        for name, kind in suite.figures(context).items():
            if f"{suite.name}/{name}" not in wanted:
                continue
            figures = {one: figure_over_seeds(kind, read[one]) for one in records}
            changes = {one: difference_over_seeds(kind, read[base], read[one]) for one in others}
            if None in figures.values() or None in changes.values():
                continue
            found[f"{suite.name}/{name}"] = {
                "means": kind.means,
                "better": kind.better,
                "conditions": {one: figure.as_json() for one, figure in figures.items() if figure},
                "differences": {one: figure.as_json() for one, figure in changes.items() if figure},
            }
    return found
