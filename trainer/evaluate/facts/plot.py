"""A plot of what a model knows by how often its training text says it, with the bound as a line."""

from collections.abc import Mapping
from pathlib import Path

from trainer.errors import DataError
from trainer.evaluate.intervals import Figure
from trainer.evaluate.occurrence_buckets import BUCKETS

DOTS_AN_INCH = 150


def plot_occurrence(figures: Mapping[str, Figure], path: Path) -> bool:
    """Draw the figures of the suite `occurrence` to a .png; whether there was anything to draw.

    Wrong choices and confident wrong completions by occurrences, with their intervals; as lines the
    lower bound on a base model's errors, at 0 and said to be vacuous where it is less, and the
    share of occurrences that are a fact's only one, which it approaches in large corpora. Draws
    nothing without matplotlib, or where no figure by occurrences is there. Raises DataError where
    the file cannot be written.
    """
    drawn = [group for group in BUCKETS if f"accuracy_{group}" in figures]
    try:
        from matplotlib.figure import Figure as Drawing
    except ImportError:
        return False
    if not drawn:
        return False
    drawing = Drawing(figsize=(5.5, 3.5), layout="constrained")
    axes = drawing.subplots()
    for name, sign, label in (("accuracy", -1, "wrong"), ("hallucination", 1, "wrong, confident")):
        shown = [figures[f"{name}_{group}"] for group in drawn]
        start = 1.0 if sign < 0 else 0.0
        values = [start + sign * one.value for one in shown]
        ends = [sorted(start + sign * end for end in (one.low, one.high)) for one in shown]
        spread = [
            [value - low for value, (low, _) in zip(values, ends, strict=True)],
            [high - value for value, (_, high) in zip(values, ends, strict=True)],
        ]
        axes.errorbar(range(len(drawn)), values, spread, marker="o", capsize=3, label=label)
    if (bound := figures.get("lower_bound")) is not None:
        vacuous = f" (vacuous: {bound.value:.2f})" if bound.value <= 0 else ""
        label = f"lower bound on all errors{vacuous}"
        axes.axhline(max(bound.value, 0.0), linestyle="--", color="black", label=label)
    if (rate := figures.get("singleton_rate")) is not None:
        label = "occurrences that are a fact's only one"
        axes.axhline(rate.value, linestyle=":", color="gray", label=label)
    axes.set_xticks(range(len(drawn)), [group.replace("_", " ") for group in drawn])
    axes.set_xlabel("sentences of the training text with the fact")
    axes.set_ylabel("share of facts")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize="small")
    try:
        drawing.savefig(path, dpi=DOTS_AN_INCH)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None
    return True
