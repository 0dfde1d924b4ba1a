"""Plots of a curation: the funnel, the documents' lengths, and their languages."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.corpus.inspect.curation import Curation, load_curation
from trainer.errors import DataError, RecipeError

log = logging.getLogger(__name__)

LANGUAGES_SHOWN = 15
DOTS_AN_INCH = 150


def write_plots(folder: str | Path, out: str | Path) -> list[Path]:
    """Write funnel.png, lengths.png, languages.png to `out`, those with data; returns their paths.

    Writes nothing without curation.json or without matplotlib (of which the log warns): a corpus is
    complete without plots. Raises DataError when `out` cannot be written.
    """
    curation = load_curation(folder)
    if curation is None:
        return []
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        log.warning("no plots of %s: matplotlib is not installed", folder)
        return []
    out = Path(out)
    drawings: dict[str, tuple[bool, Callable[[Curation, Path], None]]] = {
        "funnel": (bool(curation.funnel), _draw_funnel),
        "lengths": (bool(curation.lengths.filled()), _draw_lengths),
        "languages": (bool(curation.languages), _draw_languages),
    }
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, (present, draw) in drawings.items():
            if present:
                draw(curation, out / f"{name}.png")
                written.append(out / f"{name}.png")
    except OSError as error:
        raise DataError(f"cannot write plots to {out}: {error.strerror or error}") from None
    return written


def plots_command(folder: Path, out: Path) -> None:
    """Write the plots and print their paths.

    Raises RecipeError where there is nothing to draw, or no matplotlib.
    """
    written = write_plots(folder, out)
    if not written:
        raise RecipeError(
            f"--plots: nothing drawn: {folder} has no curation.json, or matplotlib is missing"
            " (pip install matplotlib)"
        )
    for path in written:
        print(path)


def _draw_funnel(curation: Curation, path: Path) -> None:
    steps = curation.funnel
    figure, panel = _figure(0.32 * len(steps) + 1.2)
    names = [step.name for step in steps]
    _bars(panel, names, [step.documents for step in steps], "C0")
    panel.set_xlabel("documents left after each step")
    panel.set_title("funnel")
    _save(figure, path)


def _draw_lengths(curation: Curation, path: Path) -> None:
    bins = curation.lengths.filled()
    figure, panel = _figure(4.0)
    positions = range(len(bins))
    panel.bar(positions, [read for _, read, _ in bins], color="lightgrey", label="read")
    panel.bar(positions, [kept for _, _, kept in bins], width=0.5, color="C0", label="kept")
    panel.set_xticks(
        positions, [label for label, _, _ in bins], rotation=60, ha="right", fontsize=7
    )
    panel.set_xlabel("characters a document")
    panel.set_ylabel("documents")
    panel.set_title("lengths")
    panel.legend()
    _save(figure, path)


def _draw_languages(curation: Curation, path: Path) -> None:
    ranked = curation.top_languages(LANGUAGES_SHOWN)
    figure, panel = _figure(0.32 * len(ranked) + 1.2)
    _bars(panel, [name for name, _ in ranked], [count for _, count in ranked], "C2")
    if min(count for _, count in ranked) > 0:
        # One language has nearly all documents; the others are to be seen too.
        panel.set_xscale("log")
    panel.set_xlabel("documents found to be in the language")
    panel.set_title("languages")
    _save(figure, path)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    # A Figure by itself draws with Agg and leaves no state behind.
    figure = Figure(figsize=(7.0, height), layout="constrained")
    panel = figure.subplots()
    panel.grid(axis="both", alpha=0.3)
    panel.set_axisbelow(True)
    return figure, panel


def _bars(panel: Any, names: Sequence[str], counts: Sequence[int], colour: str) -> None:
    positions = range(len(names))
    bars = panel.barh(positions, counts, color=colour)
    panel.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=7)
    # Two $ in a name would be read as mathematics.
    panel.set_yticks(positions, [name.replace("$", r"\$") for name in names])
    panel.invert_yaxis()
    panel.margins(x=0.15)


def _save(figure: Any, path: Path) -> None:
    # The version of matplotlib in a picture would make it differ between machines.
    figure.savefig(path, dpi=DOTS_AN_INCH, metadata={"Software": None})
