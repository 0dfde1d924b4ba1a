"""What the benchmarks show: tables by rich; pictures by matplotlib, imported when one is drawn."""

from collections.abc import Container, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.table import Table

from trainer.errors import RecipeError


def table_of(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of names, in the first column, and their figures."""
    table = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*row)
    return table


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def figure_of(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_bars(
    axes: Any, values: Mapping[str, float], ours: Container[str], unit: str, text: str
) -> None:
    """A bar a name, the first on top and `ours` in colour; `text` formats the value beside it."""
    colours = ["tab:blue" if name in ours else "tab:gray" for name in values]
    bars = axes.barh(list(values), list(values.values()), color=colours)
    axes.bar_label(bars, fmt=text, padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_xlabel(unit)


def save(figure: Any, file: Path) -> None:
    """Write the figure in the format of the file's ending; raises RecipeError where it cannot."""
    try:
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:  # ValueError: an ending that names no format
        raise RecipeError(f"{file}: cannot be drawn: {error}") from error
