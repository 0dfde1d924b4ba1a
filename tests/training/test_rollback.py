"""A spike takes a run back: its data is left out and named, and the curve is a told run's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.checkpoint import list_checkpoints
from trainer.cli import main
from trainer.data.batch import Batch
from trainer.errors import RecipeError
from trainer.observe import read_metrics, read_status
from trainer.recipe import Recipe
from trainer.run import Run

SPIKES = {"recovery__spike": 1e4, "recovery__spike_window": 3}
KEYS = {"checkpoint__every": 2, "steps": 9}
LEFT_OUT = [{"before": 5, "batches": 3}]
FACTOR = 1e6


def train_spiked(recipe: Recipe, strikes: list[Any]) -> tuple[str, str] | None:
    """Train where the gradient of a batch is out of all proportion.

    `strikes`: the steps whose batches do it, whenever they are read again; or "after" and a step:
    every batch behind it.
    """
    poison: list[torch.Tensor] = []
    inner = Run.forward_backward

    def forward_backward(run: Run, batch: Batch, *rest: Any) -> Any:
        if strikes[0] == "after":
            struck = run.step + 1 > strikes[1]
        else:
            if run.step + 1 in strikes and len(poison) < len(strikes):
                poison.append(batch.tokens.clone())
            struck = any(torch.equal(batch.tokens, one) for one in poison)
        weights = [p for chunk in run.chunks for p in chunk.parameters()] if struck else []
        hooks = [weight.register_hook(lambda gradient: gradient * FACTOR) for weight in weights]
        try:
            return inner(run, batch, *rest)
        finally:
            for hook in hooks:
                hook.remove()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "forward_backward", forward_backward)
        return train_here(recipe)


def final_weights(run: Path) -> bytes:
    newest = list_checkpoints(run)[-1]
    assert newest.step == KEYS["steps"]
    return (newest.path / "rank-00000.safetensors").read_bytes()


def test_a_run_that_spiked_is_the_run_that_was_told(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches data that is read again, weights that keep the spike, and a window without a name."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS, **SPIKES)
    assert on_ranks(1, train_spiked, recipe, [7]) == [None]
    told = recipe_of(
        tmp_path / "told", corpus, **KEYS, recovery__leave_out=[{"before": 5, "batches": 3}]
    )
    assert on_ranks(1, train_here, told) == [None]
    assert losses(recipe) == losses(told)
    assert final_weights(tmp_path / "run") == final_weights(tmp_path / "told")
    # The decision is in the metrics, and the steps that were taken back are not lost.
    fifth = read_metrics(tmp_path / "run")[4]
    assert (fifth["rolled_back_from"], fifth["left_out_batches"]) == (7, 3)
    replaced = (tmp_path / "run" / "metrics-replaced.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in replaced] == [5, 6, 7]
    assert json.loads(replaced[-1])["spike_sigmas"] > 1e4
    status = read_status(tmp_path / "run")
    assert status is not None and status["goodput"]["lost_seconds"]["rolled_back"] > 0
    # The documents of the window are those that a run without any spike trained on there.
    named = json.loads((tmp_path / "run" / "rollbacks" / "step-00000007.json").read_text())
    plain = recipe_of(tmp_path / "plain", corpus, **KEYS)
    assert on_ranks(1, train_here, plain) == [None]
    assert losses(plain)[:4] == losses(recipe)[:4]
    for step in (5, 6, 7):
        here = {one["id"] for one in named["documents"] if one["step"] == step}
        assert here == traced(tmp_path / "plain", step, capsys)
    # And a trace of the run knows what it left out.
    assert traced(tmp_path / "run", 5, capsys) == traced(tmp_path / "plain", 8, capsys)
    assert traced(tmp_path / "run", 4, capsys) == traced(tmp_path / "plain", 4, capsys)


def traced(run: Path, step: int, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The documents that `lyceum corpus trace` names for a step."""
    capsys.readouterr()
    assert main(["corpus", "trace", str(run), str(step)]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    return {cells[3].strip() for cells in rows if cells[3].strip().startswith("d")}


def test_replicas_go_back_together_and_a_killed_run_goes_on_by_the_record(
    tmp_path: Path, corpus: Path
) -> None:
    """Catches a rank that decides otherwise, and a decision that dies with its process."""
    keys = KEYS | {"zero__stage": 1}
    recipe = recipe_of(tmp_path / "run", corpus, **keys, **SPIKES)
    assert on_ranks(2, train_spiked, recipe, [7]) == [None, None]
    told = recipe_of(
        tmp_path / "told", corpus, **keys, recovery__leave_out=[{"before": 5, "batches": 3}]
    )
    assert on_ranks(2, train_here, told) == [None, None]
    assert losses(recipe) == losses(told)
    # As if it had been killed behind the decision: no checkpoint of the new course is there.
    for listed in list_checkpoints(tmp_path / "run")[-2:]:
        assert listed.step > 4
        (listed.path / "checkpoint.json").unlink()
    assert on_ranks(2, train_here, recipe) == [None, None]
    assert losses(recipe) == losses(told)


def test_a_run_that_spikes_without_end_ends(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that goes back to the same step for ever."""
    limited = {**SPIKES, "recovery__rollbacks": 2}
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS, **limited)
    ((kind, line),) = filter(None, on_ranks(1, train_spiked, recipe, ["after", 5]))
    assert kind == "TrainingError"
    assert line.startswith("step 6: grad_norm") and "gone back 2 times" in line
    decided = json.loads((tmp_path / "run" / "rollbacks.json").read_text())
    files = [tmp_path / "run" / one["documents"] for one in decided]
    assert len(files) == 2 and files[0] != files[1], "each window has its own"
    ids = [{one["id"] for one in json.loads(path.read_text())["documents"]} for path in files]
    assert ids[0] != ids[1]


def test_what_was_left_out_before_steps_that_are_made_stays(tmp_path: Path, corpus: Path) -> None:
    """Catches a change that nothing follows from, and a trace that follows it all the same."""
    recipe = recipe_of(tmp_path / "run", corpus, steps=4)
    assert on_ranks(1, train_here, recipe) == [None]
    longer = {"steps": 6, "recovery__leave_out": [{"before": 3, "batches": 1}]}
    ((kind, line),) = on_ranks(1, train_here, recipe_of(tmp_path / "run", corpus, **longer))
    assert kind == "RecipeError" and "recovery.leave_out" in line
    longer["recovery__leave_out"] = [{"before": 5, "batches": 1}]
    assert on_ranks(1, train_here, recipe_of(tmp_path / "run", corpus, **longer)) == [None]
    assert read_metrics(tmp_path / "run")[4]["left_out_batches"] == 1


def test_without_a_good_checkpoint_it_goes_on_and_says_so(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that ends, or begins anew, because it spiked before its first checkpoint."""
    keys = KEYS | {"checkpoint__every": 8}
    recipe = recipe_of(tmp_path / "run", corpus, **keys, **SPIKES)
    assert on_ranks(1, train_spiked, recipe, [6]) == [None]
    assert len(losses(recipe)) == 9
    assert "no good checkpoint to go back to" in (tmp_path / "run/logs/rank-0.log").read_text()
    assert not (tmp_path / "run" / "rollbacks.json").exists()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"recovery__spike_window": 9}, "recovery.spike_window: no step of 9 has 9 steps"),
        ({"checkpoint__every": 0}, "recovery.spike: there is no checkpoint to go back to"),
        ({"recovery__spike": 0.0}, "recovery.spike"),
        ({"recovery__rollbacks": 0}, "recovery.rollbacks"),
        (
            {"recovery__leave_out": [{"before": 10, "batches": 1}]},
            "the run has no step 10",
        ),
        ({"recovery__leave_out": [{"before": 3, "batches": 901}]}, "more than 100 times"),
        ({"recovery__leave_out": [{"before": 3}]}, "recovery.leave_out"),
        ({"recovery__leave_out": [{"before": 3, "batches": 0}]}, "recovery.leave_out"),
    ],
)
def test_impossible_policies_are_refused(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    """Catches a policy that could never act, found after a month."""
    with pytest.raises(RecipeError, match=said.replace(".", r"\.")):
        recipe_of(tmp_path / "run", tmp_path, **{**KEYS, **SPIKES, **keys})


def test_a_copy_has_only_what_is_good_and_the_decisions(tmp_path: Path, corpus: Path) -> None:
    """Catches copies of the course that was given up, and one that reads the spike's data again."""
    recipe = recipe_of(
        tmp_path / "run", corpus, **KEYS, **SPIKES, checkpoint__copy_to=str(tmp_path / "far")
    )
    assert on_ranks(1, train_spiked, recipe, [7]) == [None]
    copies = tmp_path / "far" / "run"
    assert (copies / "rollbacks.json").read_bytes() == (
        tmp_path / "run" / "rollbacks.json"
    ).read_bytes()
    shutil.rmtree(tmp_path / "run")
    for listed in list_checkpoints(copies):
        if listed.step > 4:
            shutil.rmtree(listed.path)
    assert [one.step for one in list_checkpoints(copies)] == [2, 4]
    restored = recipe_of(copies, corpus, **KEYS)
    assert on_ranks(1, train_here, restored) == [None]
    told = recipe_of(tmp_path / "told", corpus, **KEYS, recovery__leave_out=LEFT_OUT)
    assert on_ranks(1, train_here, told) == [None]
    assert [one["loss"] for one in read_metrics(copies)] == losses(told)[4:]
