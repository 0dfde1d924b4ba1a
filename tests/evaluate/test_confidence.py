"""Figures of confidence agree with independent libraries, and do not depend on order."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from trainer.evaluate import confidence


def drawn(items: int, levels: int, seed: int = 0) -> np.ndarray:
    """Confidences with ties, and outcomes that follow from them half and half by chance."""
    draws = np.random.default_rng(seed)
    sure = draws.integers(1, levels, items) / levels
    return np.stack([sure, draws.random(items) < (sure + 0.5) / 2], axis=1)


@pytest.mark.parametrize(("items", "levels"), [(5, 3), (37, 5), (200, 1000)])
def test_auroc_and_brier_are_those_of_scikit_learn(items: int, levels: int) -> None:
    """Would catch ties that count whole or not at all."""
    rows = drawn(items, levels)
    assert confidence.auroc(rows) == pytest.approx(roc_auc_score(rows[:, 1], rows[:, 0]), abs=1e-12)
    score = brier_score_loss(rows[:, 1], rows[:, 0])
    assert confidence.brier(rows) == pytest.approx(score, abs=1e-12)


def test_auroc_of_one_class_is_not_defined() -> None:
    """Would catch a division by zero, or a 0.5 that nobody measured."""
    assert np.isnan(confidence.auroc(np.array([[0.3, 1.0], [0.4, 1.0]])))


@pytest.mark.parametrize(
    "figure",
    [
        confidence.auroc,
        confidence.area_under_risk,
        confidence.brier,
        confidence.calibration_error,
        confidence.calibration_excess,
    ],
)
def test_figures_do_not_depend_on_the_order_of_items(figure: object) -> None:
    """Would catch ties broken by position, which turns a resumed run into another figure."""
    rows = drawn(120, 7)
    assert callable(figure)
    for seed in range(3):
        mixed = np.random.default_rng(seed).permutation(rows)
        assert figure(mixed) == pytest.approx(figure(rows), abs=1e-12)


def test_risks_by_hand() -> None:
    """Would catch a curve from the least confident, and ties that are sorted by luck."""
    rows = np.array([[0.9, 0.0], [0.5, 1.0], [0.5, 0.0], [0.1, 1.0]])
    assert confidence.risks(rows).tolist() == pytest.approx([0, 0.25, 1 / 3, 0.5])
    assert confidence.area_under_risk(rows) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)
    assert [confidence.risk_at(share, rows) for share in (0.25, 0.5, 1)] == [0, 0.25, 0.5]


def test_reliability_gives_the_bins_of_the_calibration_error() -> None:
    """Catches a curve of confidence that is drawn over other bins than its error is taken over."""
    rows = np.array([(0.2, 0)] * 14 + [(0.2, 1)] * 6 + [(0.9, 1)] * 18 + [(0.9, 0)] * 2)
    bins = confidence.reliability(rows)
    assert bins == [
        (20, pytest.approx(0.2), pytest.approx(0.3)),
        (20, pytest.approx(0.9), pytest.approx(0.9)),
    ]
    error = sum(items * abs(sure - right) for items, sure, right in bins) / len(rows)
    assert confidence.calibration_error(rows) == pytest.approx(error)


def test_calibration_error_by_hand() -> None:
    """Would catch bins of equal width, of which 40 confidences above 0.8 fill one."""
    sure = np.concatenate([np.full(20, 0.8), np.full(20, 0.9)])
    right = np.concatenate([np.arange(20) < 10, np.arange(20) < 18])
    rows = np.stack([sure, right], axis=1)
    assert confidence.calibration_error(rows) == pytest.approx((20 * 0.3 + 20 * 0.0) / 40)
    assert confidence.overconfidence(rows) == pytest.approx(0.15)


def test_equal_confidences_share_a_bin() -> None:
    """Would catch a model that always says 50%, is right half the time, and is called bad."""
    rows = np.stack([np.full(200, 0.5), np.arange(200) % 2], axis=1)
    assert confidence.calibration_error(rows) == pytest.approx(0)


def test_what_chance_gives_a_calibrated_model_is_taken_off() -> None:
    """Would catch an error that never comes near 0, and an excess that forgives a real one."""
    draws = np.random.default_rng(0)
    excess, plain = [], []
    for _ in range(200):
        sure = draws.random(200)
        rows = np.stack([sure, draws.random(200) < sure], axis=1)
        excess.append(confidence.calibration_excess(rows))
        plain.append(confidence.calibration_error(rows))
    # 200 means of spread 0.02 each: 0.0014 of spread, four of them allowed.
    assert abs(np.mean(excess)) < 0.006
    assert np.mean(plain) > 0.05
    sure = draws.random(200)
    over = np.stack([sure, draws.random(200) < sure / 2], axis=1)
    assert confidence.calibration_excess(over) > 0.15
