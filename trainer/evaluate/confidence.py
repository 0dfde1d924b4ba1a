"""A model's confidence, and how far it can be trusted: figures over pairs of it and of the truth.

Each figure is a pure function of the rows in any order: equal confidences are taken together.
"""

import math

import numpy as np

from trainer.evaluate.respondent import WrittenAnswer

ITEMS_A_BIN, MOST_BINS = 20, 10
"""Adaptive bins are of equal numbers of items, so many at least."""


def token_confidence(answer: WrittenAnswer) -> float:
    """The geometric mean of the probabilities of an answer's tokens; 0 without any."""
    return math.exp(sum(answer.nats) / len(answer.nats)) if answer.nats else 0.0


def auroc(rows: np.ndarray) -> float:
    """The probability that a positive has more confidence than a negative, ties counting half.

    `rows`: [items, (confidence, 1 positive or 0)]; NaN without both. The area under the receiver
    operating characteristic, by the rank sum of Mann and Whitney.
    """
    confidence, positive = rows[:, 0], rows[:, 1] > 0.5
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return math.nan
    ordered = np.sort(confidence)
    below = np.searchsorted(ordered, confidence, "left")
    ranks = (below + np.searchsorted(ordered, confidence, "right") + 1) / 2
    wins = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def risks(rows: np.ndarray) -> np.ndarray:
    """The share of wrong answers among the k most confident, for each k from 1 to all.

    `rows`: [answers, (confidence, 1 wrong or 0)]. Equal confidences: what is expected of them in
    any order. Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks",
    2017.
    """
    _, group = np.unique(-rows[:, 0], return_inverse=True)
    expected = np.bincount(group, rows[:, 1]) / np.bincount(group)
    wrong = expected[np.sort(group)]
    return np.asarray(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))


def area_under_risk(rows: np.ndarray) -> float:
    """The mean of `risks` over all coverages: 0 where nothing is wrong."""
    return float(risks(rows).mean())


def risk_at(coverage: float, rows: np.ndarray) -> float:
    """The share of wrong answers among the most confident share `coverage` of them."""
    return float(risks(rows)[math.ceil(coverage * len(rows)) - 1])


def brier(rows: np.ndarray) -> float:
    """The mean squared distance of confidence and outcome, of [items, (confidence, right)].

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    return float(np.mean((rows[:, 0] - rows[:, 1]) ** 2))


def calibration_error(rows: np.ndarray) -> float:
    """The expected calibration error over adaptive bins of [items, (confidence, right)].

    Bins hold as many items each, equal confidences together; the mean distance between a bin's
    confidence and its share of right answers, by its items. Source: Nguyen and O'Connor, "Posterior
    calibration and exploratory analysis for natural language processing models", 2015.
    """
    return float(sum(items * abs(gap) for items, gap, _ in _bins(rows)) / len(rows))


def calibration_excess(rows: np.ndarray) -> float:
    """`calibration_error` less what chance alone gives a perfectly calibrated model.

    So few items never fall on their confidence exactly: in a bin, right answers spread around it
    by the square root of p(1 - p) / n, the mean distance of which is that times sqrt(2 / pi).
    """
    chance = sum(items * spread for items, _, spread in _bins(rows)) * math.sqrt(2 / math.pi)
    return calibration_error(rows) - float(chance / len(rows))


def overconfidence(rows: np.ndarray) -> float:
    """The mean confidence less the share of right answers."""
    return float(rows[:, 0].mean() - rows[:, 1].mean())


def reliability(rows: np.ndarray) -> list[tuple[int, float, float]]:
    """Of each adaptive bin of [items, (confidence, right)]: items, mean confidence, share right."""
    items, (confidence, right) = _binned(rows, rows[:, 0], rows[:, 1])
    return [
        (int(count), float(sum_ / count), float(hits / count))
        for count, sum_, hits in zip(items, confidence, right, strict=True)
        if count
    ]


def _bins(rows: np.ndarray) -> list[tuple[int, float, float]]:
    """Of each bin: its items, confidence less share right, and the chance spread of that."""
    confidence, right = rows[:, 0], rows[:, 1]
    items, (gaps, spreads) = _binned(rows, confidence - right, confidence * (1 - confidence))
    return [
        (int(count), float(gap / count), math.sqrt(max(0.0, float(spread))) / int(count))
        for count, gap, spread in zip(items, gaps, spreads, strict=True)
        if count
    ]


def _binned(rows: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The items of each adaptive bin, and the sums of each of `values` over them."""
    confidence = rows[:, 0]
    ordered = np.sort(confidence)
    middle = np.searchsorted(ordered, confidence, "left") + np.searchsorted(
        ordered, confidence, "right"
    )
    bins = min(MOST_BINS, max(1, len(rows) // ITEMS_A_BIN))
    number = (middle * bins - 1) // (2 * len(rows))
    sums = [np.bincount(number, one, minlength=bins) for one in values]
    return np.bincount(number, minlength=bins), sums
