"""The steps of the experiment on truth are started as every machine can run them."""

import subprocess
from collections.abc import Sequence
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
