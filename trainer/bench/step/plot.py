"""Two bars of a step, predicted and measured, made of its parts."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from trainer.bench.step.table import Row
from trainer.errors import RecipeError

_SHOWN = 14


def plot(rows: Sequence[Row], path: Path, subtitle: str) -> bool:
    """Draw them into the file; False, and nothing drawn, where matplotlib is not installed.

    The parts that take longest have colours of their own, the others one together. Raises
    RecipeError where the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    ordered = sorted(rows, key=_length, reverse=True)
    shown, others = ordered[:_SHOWN], ordered[_SHOWN:]
    bars = {"predicted": [row.floor_seconds for row in shown]}
    rest = {"predicted": sum(row.floor_seconds for row in others)}
    if any(row.measured_seconds is not None for row in rows):
        bars["measured"] = [row.measured_seconds or 0.0 for row in shown]
        rest["measured"] = sum(row.measured_seconds or 0.0 for row in others)
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for place, (name, heights) in enumerate(bars.items()):
        bottom = 0.0
        for number, height in enumerate([*heights, rest[name]]):
            label = [*(row.name for row in shown), "other parts"][number] if place == 0 else None
            drawn = axes.bar(name, height * 1e3, bottom=bottom * 1e3, label=label)
            for box in drawn:
                box.set(facecolor=f"C{number % 10}", edgecolor="white")
                box.set_hatch("//" if number >= 10 else "")
            bottom += height
    axes.set_ylabel("milliseconds a step")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8)
    figure.supxlabel("\n".join(textwrap.wrap(subtitle, 130)), fontsize=7)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be written: {error}") from error
    return True


def _length(row: Row) -> float:
    return max(row.floor_seconds, row.measured_seconds or 0.0)
