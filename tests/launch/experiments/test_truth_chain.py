"""The steps of the experiment on truth are started as every machine can run them."""

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launch.experiments.truth import chain


def test_steps_train_on_the_cpu_of_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches ranks that each look for a GPU of their own where the machine has one."""
    started: list[tuple[Sequence[str], dict[str, Any]]] = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, **options: started.append((words, options))
    )
    chain.train_step("step.yaml", ["steps=2"])
    ((words, options),) = started
    assert words[2:] == ["trainer", "train", "step.yaml", "steps=2", "--nproc", str(chain.RANKS)]
    assert options["check"] and options["env"]["CUDA_VISIBLE_DEVICES"] == ""


def test_preferences_are_of_a_part_of_the_bank_that_hangs_on_the_seed(tmp_path: Path) -> None:
    """Catches a part of some kinds alone, and one that another call of the command would change."""
    first, again, other = (
        chain.drawn_questions(tmp_path / name, seed).read_text(encoding="utf-8")
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first == again != other
    asked = [json.loads(line) for line in first.splitlines()]
    answerable = Counter(one["answers"] is not None for one in asked)
    assert answerable == chain.ASKED_FOR_PREFERENCES
    kinds = Counter(one["kind"] for one in asked if one["answers"] is not None)
    assert len(kinds) > 50 and max(kinds.values()) <= 10
