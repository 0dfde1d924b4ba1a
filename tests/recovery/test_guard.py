import pytest

from trainer.errors import TrainingError
from trainer.recovery import NonFiniteGuard


def test_non_finite_steps_are_skipped_and_counted() -> None:
    """Would catch a run that forgets that it skipped."""
    guard = NonFiniteGuard(limit=3)
    for step, finite in enumerate([True, False, False, True, False], 1):
        guard.observe(finite, step)
    assert guard.state() == {"skipped": 3, "in_a_row": 1}


def test_the_limit_in_a_row_ends_the_run_with_exit_code_four() -> None:
    """Would catch a run that skips for ever, and one that counts skips far apart together."""
    guard = NonFiniteGuard(limit=2)
    for step in range(1, 10, 2):
        guard.observe(False, step)
        guard.observe(True, step + 1)
    guard.observe(False, 10)
    with pytest.raises(TrainingError, match=r"2 steps in a row.*step 11") as failure:
        guard.observe(False, 11)
    assert failure.value.exit_code == 4
    assert "\n" not in str(failure.value)


def test_the_counts_survive_a_resume() -> None:
    """Would catch a run that restarts its patience with every resume."""
    before = NonFiniteGuard(limit=2)
    before.observe(False, 1)
    after = NonFiniteGuard(limit=2)
    after.load_state(before.state())
    with pytest.raises(TrainingError):
        after.observe(False, 2)
