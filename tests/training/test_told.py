"""What a run says as it begins: a learning rate that jumps, a model that no export writes."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import recipe_of
from trainer.resolve import _tell_unwritten
from trainer.resume import _tell_jump


def messages(
    folder: Path, caplog: pytest.LogCaptureFixture, step: int, changed: dict[str, Any]
) -> list[str]:
    """What is said where a run of 100 steps goes on behind `step` with changed keys."""
    keys: dict[str, Any] = {"steps": 100, "schedule__warmup": 10, "optimizer__lr": 1e-3}
    old, new = (recipe_of(folder, folder, **(keys | more)) for more in ({}, changed))
    with caplog.at_level(logging.WARNING):
        _tell_jump(old, new, step)
    return caplog.messages


def test_a_prolonged_run_says_that_its_rate_jumps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a rate that rises fivefold at the end of its schedule, without a word."""
    (line,) = messages(tmp_path, caplog, 100, {"steps": 200})
    assert line.startswith("the learning rate jumps from 0.0001 to 0.0005")
    assert "at step 101; steps 100 -> 200 draws the whole cosine schedule anew" in line
    assert line.endswith("schedule.length=100 goes on at 0.0001")


@pytest.mark.parametrize(
    "changed",
    [{}, {"steps": 200, "schedule__length": 100}, {"steps": 101}, {"evaluate__every": 5}],
    ids=str,
)
def test_a_rate_that_goes_on_is_not_said(
    changed: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a warning on every resume: at the end, and in a warmup, whose rate rises anyway."""
    for step in (5, 100):
        assert messages(tmp_path, caplog, step, changed) == []


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, ""),
        ({"model__window": 7}, ""),
        ({"model__window": 7, "model__window_pattern": ("local", "global")}, ""),
        ({"model__qk_norm": True, "model__qkv_bias": True}, "model.qkv_bias and model.qk_norm"),
        ({"model__norm": "layer"}, "model.norm"),
    ],
)
def test_a_model_that_no_export_writes_is_said_before_it_is_trained(
    keys: dict[str, Any], names: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a run of days whose export is refused at its end."""
    with caplog.at_level(logging.WARNING):
        _tell_unwritten(recipe_of(tmp_path, tmp_path, **keys))
    lines = [line for line in caplog.messages if line.startswith("lyceum export will not write")]
    assert lines == caplog.messages and len(lines) == bool(names)
    assert all(names in line for line in lines)
