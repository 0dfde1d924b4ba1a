"""In the steady state no step waits: shown by what is read from tensors computed on the device."""

import json
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here
from tests.training.sets import tuning_recipe, write_sets
from trainer.observe import read_metrics
from trainer.observe.waits import _cuda_waits
from trainer.parallel import device, schedule
from trainer.parallel.device import DeviceTime, Readback
from trainer.recipe import Recipe

CPU = torch.device("cpu")
QUIET = {
    **{"checkpoint__every": 0, "checkpoint__save_final": False, "evaluate__every": 0},
    "profile__waits": True,
}


def waits_of(recipe: Recipe) -> dict[str, Any]:
    assert train_here(recipe) is None
    found: dict[str, Any] = json.loads((Path(recipe.run) / "waits.json").read_text())
    return found


def with_a_wait(recipe: Recipe) -> dict[str, Any]:
    """As `waits_of`, where finishing the gradients asks whether the loss is finite."""
    right = schedule.finalize_gradients

    def wrong(chunks: Any, layout: Any, measured: Any) -> None:
        if torch.isfinite(measured.mean):
            right(chunks, layout, measured)

    import trainer.run

    trainer.run.finalize_gradients = wrong
    return waits_of(recipe)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"precision": "bf16", "kernels__loss": "fused", "recompute": "full"},
        {"model__tied_embeddings": True, "model__qk_norm": True, "recompute": "mlp"},
    ],
)
def test_no_step_waits_in_the_steady_state(
    tmp_path: Path, corpus: Path, keys: dict[str, Any]
) -> None:
    """Catches a number that is read in every step: a GPU would run dry each time."""
    found = on_ranks(1, waits_of, recipe_of(tmp_path / "run", corpus, **QUIET, **keys))[0]
    assert found["waits"] == []
    assert found["steps"] == 5


def base_and_waits(base: Recipe, *tuned: Recipe) -> list[dict[str, Any]]:
    assert train_here(base) is None
    return [waits_of(recipe) for recipe in tuned]


def test_no_step_of_fine_tuning_waits(tmp_path: Path, corpus: Path) -> None:
    """Catches noise, pairs, or KTO's baseline read back in every step."""
    write_sets(tmp_path)
    base = recipe_of(tmp_path / "base", corpus, steps=2)
    kinds: dict[str, dict[str, Any]] = {
        "noisy": {"stage": "sft", "conversations": {"neftune_alpha": 5.0}},
        "dpo": {"stage": "preference"},
        "kto": {"stage": "preference", "preference__loss": "kto"},
    }
    tuned = [
        tuning_recipe(tmp_path / name, tmp_path / "base", tmp_path, **kind, **QUIET)
        for name, kind in kinds.items()
    ]
    found = on_ranks(1, base_and_waits, base, *tuned)[0]
    assert [(one["waits"], one["steps"]) for one in found] == [([], 2)] * 3


def test_a_wait_is_found_and_named(tmp_path: Path, corpus: Path) -> None:
    """Negative control: the check sees a branch on a computed number, and says where it is."""
    found = on_ranks(1, with_a_wait, recipe_of(tmp_path / "run", corpus, **QUIET))[0]
    (wait,) = found["waits"]
    assert wait["what"] == "__bool__" and wait["times"] == 5
    assert wait["where"].startswith("trainer/run.py:") and "forward_backward" in wait["where"]


def test_pytorchs_note_on_its_own_mode_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a wait told of a run without one: both warnings speak of synchronizing."""
    note = "Synchronization debug mode is a prototype feature and does not yet detect all "
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(
        torch.cuda,
        "set_sync_debug_mode",
        lambda mode: warnings.warn(f"{note}synchronizing operations", stacklevel=2),
    )
    found: list[str] = []
    with warnings.catch_warnings(), ExitStack() as watching:
        warnings.simplefilter("ignore")
        _cuda_waits(watching, found.append)
        assert found == []
        for _ in range(2):  # each time, not once a line
            warnings.warn("called a synchronizing CUDA operation (Triggered at x)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert found == ["called a synchronizing CUDA operation (Triggered at x)"] * 2


def behind(recipe: Recipe) -> None:
    """Train as on a device that runs ahead: numbers are read a step late."""
    right = Readback.__init__
    device.Readback.__init__ = lambda self, where, every=1: right(  # type: ignore[method-assign]
        self, where, every, lag=1
    )
    train_here(recipe)


@pytest.mark.parametrize("every", [1, 3])
def test_reading_late_tells_the_same(tmp_path: Path, corpus: Path, every: int) -> None:
    """Catches a step told twice, lost at the end, or with another one's evaluation."""
    keys = {"evaluate__every": 3, "evaluate__sequences": 4, "checkpoint__every": 4}
    late = recipe_of(tmp_path / "late", corpus, observe__read_every=every, **keys)
    on_ranks(1, behind, late)
    on_ranks(1, train_here, recipe_of(tmp_path / "run", corpus, **keys))
    pairs = zip(read_metrics(tmp_path / "late"), read_metrics(tmp_path / "run"), strict=True)
    for told, right in pairs:
        # When a save in the background ends, no step tells.
        names = [[key for key in one if not key.startswith("save")] for one in (told, right)]
        assert names[0] == names[1]
        same = {"step", "loss", "grad_norm", "tokens", "lr", "eval/loss"} & set(right)
        assert {key: told[key] for key in same} == {key: right[key] for key in same}


def test_the_newest_step_is_left_alone() -> None:
    """Catches a reading of the step in flight, for which the host would wait."""
    readback: Readback[int] = Readback(CPU, every=2, lag=1)
    read = []
    for step in range(1, 7):
        readback.push(step, {"loss": torch.tensor(float(step)), "norm": torch.tensor(2.0)})
        read.append([note for note, _, _ in readback.pop()])
    assert read == [[], [], [1, 2], [], [3, 4], []]
    assert [numbers for _, numbers, _ in readback.pop(everything=True)] == [
        {"loss": 5.0, "norm": 2.0},
        {"loss": 6.0, "norm": 2.0},
    ]


def test_a_step_takes_the_devices_time() -> None:
    """Catches times that count from another moment than the step's beginning."""
    first, second, third = (DeviceTime(CPU) for _ in range(3))
    whole = third.seconds_since(first)
    assert 0 <= second.seconds_since(first) <= whole
    assert second.seconds_since(first) + third.seconds_since(second) == pytest.approx(whole)
