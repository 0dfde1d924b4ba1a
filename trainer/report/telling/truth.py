"""The curves of truth: risk by coverage, confidence against truth, knowledge by occurrences."""

from collections.abc import Sequence

import numpy as np

from trainer.evaluate.confidence import reliability, risks
from trainer.evaluate.intervals import Figure
from trainer.evaluate.occurrence_buckets import BUCKETS
from trainer.report.page.blocks import Columns, Drawing, PageBlock
from trainer.report.plots.curves import (
    BucketSeries,
    TradeOffPoint,
    occurrence,
    risk_coverage,
    trade_off,
)
from trainer.report.plots.lines import line_plot
from trainer.report.plots.plotted import Series
from trainer.report.plots.whiskers import Interval
from trainer.report.reading.records import judged_answers
from trainer.report.telling.measured import MeasuredModel, suites_of

CALIBRATION, OCCURRENCE = "calibration", "occurrence"
_POINTS = 200
_LEAST = 10
"""Answers that a curve takes: of fewer it would be an accident."""


def truth_drawings(models: Sequence[MeasuredModel]) -> list[PageBlock]:
    """Those for which the models were measured."""
    found: list[PageBlock] = []
    for suite in suites_of(models):
        pair = [_trade_off(suite, models), _risk_coverage(suite, models)]
        if drawn := [one for one in pair if one is not None]:
            found.append(Columns(drawn))
    return found + [one for one in (_reliability(models), _occurrence(models)) if one is not None]


def _trade_off(suite: str, models: Sequence[MeasuredModel]) -> Drawing | None:
    """Hallucination against accuracy, of a suite of questions that has both."""
    points = []
    for model in models:
        made_up = model.figure(f"{suite}/hallucination")
        right = model.figure(f"{suite}/accuracy")
        if suite != OCCURRENCE and made_up is not None and right is not None:
            line = "in the order of the chain"
            points.append(TradeOffPoint(model.label, _interval(made_up), _interval(right), line))
    if len(points) < 2:
        return None
    title = f"Truth and utility: {suite}"
    caption = "What only silences a model moves it down as well as to the left."
    return Drawing(trade_off(points, title), caption)


def _risk_coverage(suite: str, models: Sequence[MeasuredModel]) -> Drawing | None:
    """The risk of the answers to a suite that knows how sure the model was."""
    lines = []
    for model in models:
        if suite == CALIBRATION or suite not in model.examined.suites:
            continue
        rows = [
            (one.confidence, float(one.verdict == "wrong"))
            for one in judged_answers(model.examined.records, suite).values()
            if one.verdict != "declined" and one.confidence is not None
        ]
        if len(rows) >= _LEAST:
            curve = risks(np.array(rows))
            # Of fewer answers the risk jumps with each of them.
            places = np.unique(np.linspace(_LEAST - 1, len(curve) - 1, _POINTS).astype(int))
            coverage = [float(place + 1) / len(curve) for place in places]
            lines.append(Series(model.label, coverage, [float(curve[place]) for place in places]))
    if not lines:
        return None
    caption = "Of the answers given: of a model that knows what it knows the risk rises late."
    return Drawing(risk_coverage(lines, f"Risk by coverage: {suite}"), caption)


def _reliability(models: Sequence[MeasuredModel]) -> Drawing | None:
    lines = []
    for model in models:
        if CALIBRATION not in model.examined.suites:
            continue
        judged = judged_answers(model.examined.records, CALIBRATION).values()
        rows = [
            (one.confidence, float(one.verdict == "right"))
            for one in judged
            if one.part == "choice" and one.confidence is not None
        ]
        if rows:
            bins = reliability(np.array(rows))
            x, y = [one for _, one, _ in bins], [one for _, _, one in bins]
            lines.append(Series(model.label, x, list(y)))
    if not lines:
        return None
    diagonal = Series("calibrated", [0.0, 1.0], [0.0, 1.0])
    title, caption = "Confidence and truth", "Of four choices, in groups of as many items each."
    svg = line_plot([*lines, diagonal], title, "confidence", "share right")
    return Drawing(svg, caption)


def _occurrence(models: Sequence[MeasuredModel]) -> Drawing | None:
    series, levels = [], {}
    measured = [model for model in models if OCCURRENCE in model.examined.suites]
    for model in measured:
        for name in ("accuracy", "hallucination"):
            values = [model.figure(f"occurrence/{name}_{group}") for group in BUCKETS]
            drawn = [None if one is None else _interval(one) for one in values]
            if any(drawn):
                label = name if len(measured) == 1 else f"{model.label}: {name}"
                series.append(BucketSeries(label, drawn))
        bound = model.figure("occurrence/lower_bound")
        if bound is not None and len(measured) == 1 and bound.value > 0:
            levels["least hallucination of a calibrated model"] = bound.value
    if not series:
        return None
    return Drawing(
        occurrence(series, list(BUCKETS), levels=levels),
        "Facts mined from the training text, by the number of its sentences that hold them.",
    )


def _interval(figure: Figure) -> Interval:
    return (figure.value, figure.low, figure.high)
