"""A spike is a step far above the steps before it; what is left out for it is told by step."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import TrainingError
from trainer.recipe.checkpoint import LeftOutSection
from trainer.recovery.rollbacks import (
    ROLLBACKS,
    Rollback,
    add_rollback,
    batches_left_out,
    left_out_between,
    read_rollbacks,
)
from trainer.recovery.spikes import SpikeDetector


def record(step: int, loss: float, grad_norm: float = 1.0, skipped: bool = False) -> dict[str, Any]:
    return {"step": step, "loss": loss, "grad_norm": grad_norm, "skipped": skipped}


LOSSES = (2.0, 2.2, 1.8, 2.0)


def taught(sigmas: float | None, window: int = 4) -> SpikeDetector:
    """A detector that has seen four quiet steps."""
    detector = SpikeDetector(sigmas, window)
    for step, loss in enumerate(LOSSES, start=1):
        assert detector.observe(record(step, loss, loss)) is None
    return detector


def test_a_step_far_above_the_window_spikes() -> None:
    """Catches a mean or deviation of something else, and a fall taken for a spike."""
    spike = taught(3.0).observe(record(5, 2.0 + 0.5, 2.0))
    assert spike is not None and (spike.step, spike.figure) == (5, "loss")
    assert spike.mean == pytest.approx(2.0) and spike.deviation == pytest.approx(0.02**0.5)
    assert spike.sigmas == pytest.approx(0.5 / 0.02**0.5)
    assert taught(3.6).observe(record(5, 2.0 + 0.5, 2.0)) is None
    assert taught(3.0).observe(record(5, 0.1, 0.1)) is None
    assert taught(None).observe(record(5, 1e9)) is None


def test_the_gradient_counts_too_and_the_larger_is_told() -> None:
    """Catches a detector that watches the loss alone."""
    found = taught(3.0).observe(record(5, 2.6, 30.0))
    assert found is not None and found.figure == "grad_norm" and found.value == 30.0


def test_nothing_is_judged_before_the_window_is_full() -> None:
    """Catches a first step that is held against nothing."""
    assert taught(3.0, window=5).observe(record(5, 1e6)) is None


def test_a_spike_does_not_make_the_next_one_usual() -> None:
    """Catches a spike that enters the window, after which its like are normal."""
    detector = taught(3.0)
    assert detector.observe(record(5, 100.0)) is not None
    assert detector.observe(record(6, 100.0)) is not None
    assert detector.observe(record(7, float("nan"), skipped=True)) is None
    assert detector.observe(record(8, 2.0, 2.0)) is None


def test_a_figure_that_stands_still_never_spikes_by_rounding() -> None:
    """Catches a deviation of zero, above which the last bit lies infinitely far."""
    detector = SpikeDetector(6.0, 2)
    for step in (1, 2):
        detector.observe(record(step, 3.0))
    assert detector.observe(record(3, 3.0 * (1 + 1e-7))) is None
    assert detector.observe(record(4, 3.1)) is not None


def test_the_window_goes_with_the_checkpoint() -> None:
    """Catches a resumed run that is blind for a window."""
    saved = json.loads(json.dumps(taught(3.0).state()))
    resumed = SpikeDetector(3.0, 4)
    resumed.load_state(saved)
    assert resumed.observe(record(5, 9.0)) == taught(3.0).observe(record(5, 9.0)) is not None
    longer = SpikeDetector(3.0, 5)
    longer.load_state(saved)
    assert longer.observe(record(5, 9.0)) is None


def decision(step: int, before: int, batches: int) -> Rollback:
    return Rollback(step, "loss", 9.0, 2.0, 50.0, "step-00000004", before, batches, "f.json")


def test_what_is_left_out_adds_up(tmp_path: Path) -> None:
    """Catches a second rollback to the same checkpoint that reads the first one's data again."""
    assert read_rollbacks(tmp_path) == []
    add_rollback(tmp_path, decision(7, 5, 3))
    add_rollback(tmp_path, decision(6, 5, 2))
    told = [LeftOutSection(before=5, batches=1), LeftOutSection(before=9, batches=4)]
    left_out = batches_left_out(told, read_rollbacks(tmp_path))
    assert left_out == {5: 6, 9: 4}
    assert left_out_between(left_out, 4, 8) == 6
    assert left_out_between(left_out, 5, 9) == 4
    assert left_out_between(left_out, 4, 9) == 10


@pytest.mark.parametrize("content", ["{", "{}", "[3]", '[{"step": 1}]', '{"a": 1}', "[null]"])
def test_a_damaged_record_is_one_line(tmp_path: Path, content: str) -> None:
    """Catches data that comes back in silence because a file could not be read."""
    (tmp_path / ROLLBACKS).write_text(content)
    with pytest.raises(TrainingError, match="put it back, or remove it"):
        read_rollbacks(tmp_path)
