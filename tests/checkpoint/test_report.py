import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.checkpoint.saving import WEIGHT, save, whole
from trainer.checkpoint import Piece, diff_checkpoints, list_checkpoints
from trainer.checkpoint.report import diff_command, list_command, prune_command, verify_command
from trainer.errors import CheckpointError, RecipeError


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_two_layouts_of_the_same_values_do_not_differ(tmp_path: Path) -> None:
    """Would catch a comparison of files instead of tensors."""
    halves = [Piece("model/weight", (4, 6), (at, 0), WEIGHT[at : at + 2]) for at in (0, 2)]
    a, b = save(tmp_path / "a", 1), save(tmp_path / "b", 1, halves)
    assert diff_checkpoints(a, b).same


def test_every_difference_is_found(tmp_path: Path, console: Console) -> None:
    """Would catch a comparison that looks at the common tensors' sum, or at some parts only."""
    changed = WEIGHT.clone()
    changed[3, 5] += 0.5
    bad = torch.tensor([1.0, float("nan"), float("inf")])
    a = save(
        tmp_path / "a",
        1,
        [
            whole("w", WEIGHT),
            whole("bad", bad),
            whole("one", bad[:1]),
            whole("t", WEIGHT),
            whole("count", torch.tensor(2)),
        ],
    )
    b = save(
        tmp_path / "b",
        2,
        [
            whole("w", changed),
            whole("bad", bad),
            whole("one", bad[1:2]),
            whole("t", WEIGHT.T),
            whole("extra", bad),
            whole("count", torch.tensor(5)),
        ],
        model={"layers": 3},
        attachments={"recipe.yaml": b"steps: 6\n"},
    )
    difference = diff_checkpoints(a, b)
    assert not difference.same
    assert difference.largest == {"w": 0.5, "bad": 0.0, "one": math.inf, "count": 3.0}
    assert difference.shapes == {"t": ((4, 6), (6, 4))}
    assert (difference.only_a, difference.only_b) == ([], ["extra"])
    assert difference.counters == {"tokens": (10, 20)}
    assert difference.model == {"layers": (2, 3)}
    assert [line for line in difference.recipe if line[0] in "+-"] == ["-steps: 5", "+steps: 6"]
    diff_command(a, b, console)
    for part in ("only in the second: extra", "counter tokens: 10 and 20", "3 of 4 tensors", "inf"):
        assert part in printed(console)


def test_large_tensors_are_compared_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a difference lost between the parts."""
    monkeypatch.setattr("trainer.checkpoint.report._ROWS_ELEMENTS", 12)
    last = WEIGHT.clone()
    last[3, 5] = 0
    a = save(tmp_path / "a", 1)
    b = save(tmp_path / "b", 1, [whole("model/weight", last)])
    assert diff_checkpoints(a, b).largest == {"model/weight": 23.0}


def test_runs_are_listed_with_what_is_wrong(tmp_path: Path, console: Console) -> None:
    """Would catch a damaged checkpoint shown as a good one."""
    save(tmp_path, 1)
    (save(tmp_path, 2) / "recipe.yaml").unlink()
    list_command(tmp_path, console)
    _, good, damaged, problem = (line.strip() for line in printed(console).splitlines())
    assert good.startswith("step-00000001") and good.endswith("complete")
    assert damaged.startswith("step-00000002") and damaged.endswith("damaged")
    assert "recipe.yaml is missing" in problem
    with pytest.raises(CheckpointError, match="does not exist"):
        list_command(tmp_path / "nowhere", console)


def test_verify_says_what_is_wrong_and_fails(tmp_path: Path, console: Console) -> None:
    """Would catch a verification that a script takes for success."""
    path = save(tmp_path, 1)
    verify_command(tmp_path, console)
    assert "complete and unaltered" in printed(console)
    (path / "recipe.yaml").write_bytes(b"steps: 9\n")
    (path / "stranger").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"recipe.yaml was altered.*and 1 more"):
        verify_command(path, console)
    assert "stranger does not belong" in printed(console)


def test_prune_keeps_what_is_asked(tmp_path: Path, console: Console) -> None:
    """Would catch a prune that removes everything when asked to keep nothing."""
    for step in (1, 2, 3):
        save(tmp_path, step)
    with pytest.raises(RecipeError, match="keep 1 or more"):
        prune_command(tmp_path, 0, console)
    prune_command(tmp_path, 2, console)
    assert "1 removed, 2 left" in printed(console)


def test_prune_never_removes_the_last_sound_one(tmp_path: Path) -> None:
    """Would catch sound checkpoints removed for a newer one that only looks whole."""
    paths = [save(tmp_path, step) for step in (2, 4, 6)]
    weights = paths[2] / "rank-00000.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    prune_command(tmp_path, 1, Console(file=io.StringIO()))
    assert [(one.step, one.problem is None) for one in list_checkpoints(tmp_path)] == [
        (4, True),
        (6, False),
    ]


def test_verifying_a_run_tells_of_newer_ones_that_are_damaged(tmp_path: Path) -> None:
    """Would catch a check that passes, as it looks past what it was to find."""
    paths = [save(tmp_path, step) for step in (2, 4)]
    (paths[1] / "rank-00000.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"step-00000004.*go on from step-00000002"):
        verify_command(tmp_path, Console(file=io.StringIO()))
