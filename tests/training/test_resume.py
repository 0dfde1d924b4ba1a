"""A run goes on exactly where it was, on this layout or another.

trainer/README.md, invariants 3 and 4.
"""

import json
import random
import signal
from pathlib import Path

import pytest

from tests.parity.ranks import Died, on_ranks
from tests.training.runs import losses, recipe_of, train_here, train_until
from trainer.checkpoint import CheckpointReader, latest_checkpoint, list_checkpoints
from trainer.observe import read_metrics, read_status


@pytest.mark.parametrize(
    ("ranks", "keys"),
    [
        (1, {}),
        (2, {"zero__stage": 1}),
        (2, {"zero__stage": 3}),
        (2, {"parallel__pipeline": 2, "precision": "bf16", "zero__stage": 2}),
    ],
    ids=["alone", "zero-1", "zero-3", "pipeline bf16"],
)
def test_killed_run_resumes_bitwise(
    tmp_path: Path, corpus: Path, ranks: int, keys: dict[str, object]
) -> None:
    """Catches any state that a checkpoint forgets: moments, counters, order of the data."""
    keys = {**keys, "checkpoint__every": 2}
    whole = recipe_of(tmp_path / "whole", corpus, **keys)
    assert on_ranks(ranks, train_here, whole) == [None] * ranks
    killed = recipe_of(tmp_path / "killed", corpus, **keys)
    step = random.randint(3, 7)
    with pytest.raises(Died):
        on_ranks(ranks, train_until, killed, step, signal.SIGKILL)
    reached = len(read_metrics(tmp_path / "killed"))
    assert on_ranks(ranks, train_here, killed) == [None] * ranks
    assert losses(killed) == losses(whole), f"killed after step {reached}"


def test_resumed_losses_depend_on_the_moments(tmp_path: Path, corpus: Path) -> None:
    """The negative control: weights alone, without Adam's state, give another curve."""
    first = recipe_of(tmp_path / "first", corpus, steps=4, schedule__length=8)
    on_ranks(1, train_here, first)
    whole = recipe_of(tmp_path / "whole", corpus, schedule__length=8)
    on_ranks(1, train_here, whole)
    weights = recipe_of(tmp_path / "weights", corpus, init_from=str(tmp_path / "first"))
    on_ranks(1, train_here, weights)
    assert losses(first) == losses(whole)[:4]
    assert losses(weights)[0] != losses(whole)[4]
    assert read_metrics(tmp_path / "weights")[0]["step"] == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1, {}), (4, {"parallel__tensor": 2, "parallel__pipeline": 2})),
        (
            (4, {"parallel__tensor": 2, "parallel__pipeline": 2, "zero__stage": 1}),
            (2, {"zero__stage": 3}),
        ),
        (
            (4, {"parallel__pipeline": 2, "parallel__virtual": 2, "zero__stage": 2}),
            (2, {"parallel__context": 2, "zero__stage": 1}),
        ),
        (
            (2, {"zero__stage": 3}),
            (2, {"parallel__tensor": 2, "parallel__sequence": True, "batch__micro": 2}),
        ),
    ],
    ids=["1-tp2pp2", "tp2pp2-zero3", "vpp2-cp2", "zero3-sp2"],
)
def test_run_resumes_on_another_layout(
    tmp_path: Path,
    corpus: Path,
    before: tuple[int, dict[str, object]],
    after: tuple[int, dict[str, object]],
) -> None:
    """Catches a checkpoint that only its own layout can read, and data that depends on ranks."""
    whole = recipe_of(tmp_path / "whole", corpus, schedule__length=8)
    on_ranks(1, train_here, whole)
    run = tmp_path / "moved"
    keys = {"schedule__length": 8}
    assert on_ranks(before[0], train_here, recipe_of(run, corpus, steps=3, **keys, **before[1]))
    moved = recipe_of(run, corpus, **keys, **after[1])
    assert on_ranks(after[0], train_here, moved) == [None] * after[0]
    assert losses(moved)[3:] == pytest.approx(losses(whole)[3:], abs=1e-5, rel=0)
    streams = [json.loads((path / "checkpoint.json").read_text()) for path in newest(run, tmp_path)]
    ours, theirs = (stream["counters"]["stream"] for stream in streams)
    assert ours == theirs


def newest(*runs: Path) -> list[Path]:
    """The newest checkpoint of a run, and that of the run `whole` beside it."""
    found = [latest_checkpoint(runs[0]), latest_checkpoint(runs[1] / "whole")]
    assert found[0] is not None and found[1] is not None
    return [found[0], found[1]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_to_one_rank_stops_all_with_a_checkpoint(
    tmp_path: Path, corpus: Path, number: int
) -> None:
    """Catches ranks that stop at different steps, and a stop that loses its last steps."""
    recipe = recipe_of(tmp_path / "run", corpus, steps=100000, zero__stage=1)
    answers = on_ranks(2, train_until, recipe, 3, number)
    assert [answer[0] for answer in answers] == ["StopRequested"] * 2
    status = read_status(tmp_path / "run")
    assert status is not None
    assert (status["state"], status["exit_code"]) == ("stopped", 75)
    saved = latest_checkpoint(tmp_path / "run")
    assert saved is not None
    assert CheckpointReader(saved).step == status["step"] == len(losses(recipe))


def test_old_checkpoints_are_let_go(tmp_path: Path, corpus: Path) -> None:
    """Catches a disk that fills up."""
    recipe = recipe_of(tmp_path / "run", corpus, checkpoint__every=1, checkpoint__keep=2)
    on_ranks(1, train_here, recipe)
    assert [kept.step for kept in list_checkpoints(tmp_path / "run")] == [7, 8]
