"""One picture a family: each implementation's share of the ceiling against the width."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels.bench.errors import BenchError
from kernels.bench.table import Result


def plot(results: Sequence[Result], folder: Path, subtitle: str) -> list[Path]:
    """Write FAMILY.png into the folder for each family that was measured, a panel an operator.

    Raises BenchError where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BenchError("--plots: needs matplotlib; pip install matplotlib") from error
    measured = [result for result in results if result.measurement is not None]
    written = []
    for family in dict.fromkeys(result.family for result in measured):
        own = [result for result in measured if result.family == family]
        operators = list(dict.fromkeys(result.case.operator for result in own))
        names = dict.fromkeys(str(result.implementation) for result in own)
        colours = {name: f"C{number}" for number, name in enumerate(names)}
        figure = Figure(figsize=(4.5 * len(operators), 4.2), layout="constrained")
        panels = figure.subplots(1, len(operators), squeeze=False, sharey=True)[0]
        for panel, operator in zip(panels, operators, strict=True):
            _draw(panel, [result for result in own if result.case.operator == operator], colours)
            panel.set_title(f"{family} {operator}")
        panels[0].set_ylabel("share of the measured ceiling")
        panels[0].legend()
        figure.supxlabel(subtitle, fontsize=7)
        path = folder / f"{family}.png"
        figure.savefig(path, dpi=150)
        written.append(path)
    return written


def _draw(panel: Any, results: Sequence[Result], colours: dict[str, str]) -> None:
    for name in dict.fromkeys(str(result.implementation) for result in results):
        line = sorted(
            (result.case.width, result.ceiling_share)
            for result in results
            if result.implementation == name and result.ceiling_share is not None
        )
        ours = name == "lyceum"
        panel.plot(
            [width for width, _ in line],
            [share for _, share in line],
            label=name,
            color=colours[name],
            marker="o",
            linewidth=2.5 if ours else 1.2,
            zorder=3 if ours else 2,
        )
    widths = sorted({result.case.width for result in results})
    panel.set_xscale("log", base=2)
    panel.set_xticks(widths, [str(width) for width in widths])
    panel.set_xlabel("width")
    panel.set_ylim(0, 1.05)
    panel.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    panel.grid(alpha=0.3)
