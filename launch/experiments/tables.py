"""Tables of experiments in Markdown, and the line that says on what they were made."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.files import write_whole

PACKAGES = ("torch", "transformers", "megatron-core")


def cell(figure: Mapping[str, Any]) -> str:
    """A figure as `SeededFigure.as_json` has it, with its interval."""
    value, (low, high) = figure["value"], figure["interval"]
    if value is None:
        return "-"
    numbers = [value] if low is None else [value, low, high]
    first, *ends = (f"{round(number, 3) + 0.0:.3f}" for number in numbers)  # no -0.000
    return f"{first} [{', '.join(ends)}]" if ends else first


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; all columns but the first are aligned right."""
    ruler = ["---", *("---:" for _ in heads[1:])]
    return [f"| {' | '.join(row)} |" for row in (heads, ruler, *rows)]


def write_page(page: str, figures: Mapping[str, Any], folder: Path) -> str:
    """Write figures.json and, as figures.md, the page of them into a folder; returns the page."""
    write_whole(folder / "figures.json", json.dumps(figures, indent=1) + "\n")
    write_whole(folder / "figures.md", page)
    return page


def machine_of(run: Path) -> dict[str, Any]:
    """Of a run's environment.json what figures depend on; without names of host and folders."""
    known = json.loads((run / "environment.json").read_bytes())
    packages = {name: known["packages"].get(name) for name in PACKAGES}
    return {"python": known["python"], "packages": packages, "cpu": known["cpu"]}


def about_machine(environment: Mapping[str, Any]) -> str:
    """Processor, cores, Python and versions, as `machine_of` has them."""
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in PACKAGES if packages.get(name))
    cpu = environment["cpu"]
    return f"{cpu['name']}, {cpu['cores']} cores; Python {environment['python']}, {versions}; CPU."
