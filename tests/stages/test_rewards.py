"""What an answer earns for its form, whatever the model writes."""

import pytest

from trainer.recipe.reinforce import ReinforceSection
from trainer.stages import rewards
from trainer.stages.rewards import Rewards


def earned(text: str, **asked: object) -> float:
    """For the form alone."""
    section = ReinforceSection.model_validate({"rewards": asked})
    return Rewards(section).of("right", True, text, 4, True)["format"]


def test_a_form_is_the_whole_answers_over_all_its_lines() -> None:
    """Catches a form that a part of the answer, or its first line alone, is paid for."""
    pattern = r"<think>.*</think> \d+"
    assert earned(" <think>a\nb</think> 42\n", format_regex=pattern) == 1.0
    assert earned("<think>a</think> 42 or so", format_regex=pattern) == 0.0


def test_a_form_that_takes_too_long_earns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a training that stands still on one answer, or ends with it."""
    monkeypatch.setattr(rewards, "SECONDS", 0.01)
    # Backtracks for longer than the sun will burn.
    assert earned("a" * 64 + "!", format_regex=r"(a|aa|a?a)+$") == 0.0


def test_json_nested_without_end_is_no_form() -> None:
    """Catches a stack that a model's brackets overflow, and a training that ends with it."""
    assert earned("[" * 100_000, format_json=True) == 0.0
    assert earned('{"a": [1]}', format_json=True) == 1.0
