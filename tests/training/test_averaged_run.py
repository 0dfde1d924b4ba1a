"""A run keeps the average of its weights: in its checkpoints, and as a run that commands open."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.checkpoint import CheckpointReader, list_checkpoints, resolve_checkpoint
from trainer.checkpoint.report import list_command
from trainer.evaluate.opened import open_model
from trainer.hugging_face.exporting import export_command
from trainer.recipe import Recipe

EMA = {"kind": "ema", "decay": 0.7}
KEYS: dict[str, Any] = {
    **{"steps": 6, "schedule__length": 6, "checkpoint__average": EMA},
    "model__layers": 2,
}


def in_checkpoint(run: Path) -> dict[str, Tensor]:
    """The average among a checkpoint's optimizer state, by its weight's name."""
    reader = CheckpointReader(resolve_checkpoint(run))
    prefix = "optimizer/average/"
    keys = [key for key in reader.keys() if key.startswith(prefix)]  # noqa: SIM118
    return {key.removeprefix(prefix): reader.read(key) for key in keys}


def as_weights(run: Path) -> dict[str, Tensor]:
    """The weights of RUN/average."""
    reader = CheckpointReader(resolve_checkpoint(run / "average"))
    return {key.removeprefix("model/"): reader.read(key) for key in reader.keys()}  # noqa: SIM118


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys() and len(one) > 10
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("ranks", "keys"),
    [(1, {}), (2, {"zero__stage": 3})],
    ids=["alone", "zero-3"],
)
def test_a_resumed_average_is_bitwise_that_of_the_whole_run(
    tmp_path: Path, corpus: Path, ranks: int, keys: dict[str, Any]
) -> None:
    """Catches an average, or its count, that a checkpoint forgets or rounds."""
    keys = KEYS | keys
    whole = recipe_of(tmp_path / "whole", corpus, **keys)
    parts = [recipe_of(tmp_path / "parts", corpus, **keys | {"steps": n}) for n in (3, 6)]
    # Two runs under ZeRO 3 in one process would wait for each other's groups for ever.
    turns = [[whole, *parts]] if ranks == 1 else [[whole], [parts[0]], [parts[1]]]
    for turn in turns:
        for ends, _ in on_ranks(ranks, in_turn, turn):
            assert ends == [None] * len(turn)
    runs = [tmp_path / "whole", tmp_path / "parts"]
    assert losses(whole) == losses(parts[1])
    one, other = map(in_checkpoint, runs)
    assert equal(one, other) and equal(*map(as_weights, runs)) and equal(one, as_weights(runs[0]))
    counters = [CheckpointReader(resolve_checkpoint(run)).counters for run in runs]
    assert counters[0]["averaged"] == counters[1]["averaged"] == 6
    assert [listed.step for listed in list_checkpoints(runs[1] / "average")] == [6]


def train_read_and_export(recipe: Recipe, run: Path) -> int:
    """Train; then open the average of another run as commands do, and export it; its step."""
    assert train_here(recipe) is None
    with open_model(run / "average", 1) as opened:
        step = opened.step
    export_command(run / "average", run / "exported")
    return step


def last_weights(recipe: Recipe) -> list[dict[str, Tensor]]:
    """The weights after each step, of a run that saved them all."""
    found = []
    for listed in list_checkpoints(Path(recipe.run)):
        reader = CheckpointReader(listed.path)
        names = [key for key in reader.keys() if key.startswith("model/")]  # noqa: SIM118
        found.append({name.removeprefix("model/"): reader.read(name) for name in names})
    return found


def test_a_mean_is_that_of_the_last_checkpoints_at_another_layout_too(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a mean over other steps than it says, and an average that one layout alone reads.

    Negative control: it is not the last weights.
    """
    mean = {"kind": "mean", "last": 3}
    keys = {**KEYS, "checkpoint__average": mean, "checkpoint__every": 1, "checkpoint__keep": 0}
    run = tmp_path / "run"
    begun = recipe_of(run, corpus, **keys, parallel__tensor=2)
    stopped = {**keys, "checkpoint__every": 4, "resume": str(run / "checkpoints/step-00000004")}
    alone = recipe_of(tmp_path / "alone", corpus, **stopped)
    assert on_ranks(2, train_here, begun) == [None] * 2
    weights = last_weights(begun)
    average = as_weights(run)
    assert equal(average, in_checkpoint(run)) and not equal(average, weights[-1])
    for name, values in average.items():
        expected = torch.stack([step[name] for step in weights[3:]]).mean(0)
        torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)
    assert not any((run / "average").rglob("step-00000003"))
    assert on_ranks(1, train_read_and_export, alone, run) == [6]
    other = as_weights(tmp_path / "alone")
    for name, values in average.items():
        # Two steps of another layout, by Adam at a rate of 1e-2.
        torch.testing.assert_close(other[name], values, atol=1e-4, rtol=0)
    assert (run / "exported" / "model.safetensors").is_file()
    capsys.readouterr()
    list_command(run)
    assert f"the average of its weights, after step 6: {run}/average" in capsys.readouterr().out


def test_another_average_begins_anew(tmp_path: Path, corpus: Path) -> None:
    """Catches an average that goes on under a name that says something else."""
    changed = {"kind": "ema", "decay": 0.9}
    first = recipe_of(tmp_path / "run", corpus, **KEYS | {"steps": 3})
    anew = recipe_of(tmp_path / "run", corpus, **KEYS | {"checkpoint__average": changed})
    off = recipe_of(tmp_path / "run", corpus, **KEYS | {"steps": 7, "checkpoint__average": None})
    average = tmp_path / "run" / "average" / "checkpoints" / "step-00000006"
    from_it = recipe_of(tmp_path / "on", corpus, **KEYS | {"steps": 8, "resume": str(average)})
    ends, lines = on_ranks(1, in_turn, [first, anew, off, from_it])[0]
    assert ends == [None] * 4
    steps = [listed.path for listed in list_checkpoints(tmp_path / "run")]
    counts = [CheckpointReader(path).counters["averaged"] for path in steps]
    assert counts == [3, 3, 0]
    said = [line for line in lines if line.startswith("checkpoint.average")]
    assert said == [
        "checkpoint.average: the weights' average begins anew, over other steps",
        "checkpoint.average: the weights' average is not kept any more;"
        f" {tmp_path / 'run'}/average stays as it is, of an earlier training",
    ]
    assert [listed.step for listed in list_checkpoints(tmp_path / "run" / "average")] == [6]
    # Moments that are begun anew are corrected as those of no step.
    counters = CheckpointReader(resolve_checkpoint(tmp_path / "on")).counters
    assert (counters["step"], counters["updates"]) == (8, 2)


def in_turn(recipes: list[Recipe]) -> tuple[list[tuple[str, str] | None], list[str]]:
    """Train several recipes, one after the other; how each ended, and what was logged."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("trainer").addHandler(handler)
    logging.getLogger("trainer").setLevel(logging.INFO)
    return [train_here(recipe) for recipe in recipes], lines
