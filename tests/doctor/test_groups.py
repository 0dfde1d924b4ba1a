"""Collectives, schedules and ways through a step are only worth trying if a wrong one is seen."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.parity.ranks import on_ranks
from trainer.doctor import collectives, groups
from trainer.doctor.attempt import NotRunError, attempt
from trainer.doctor.collectives import AXES, try_collectives, try_sending
from trainer.doctor.paths import STEPS, Way, held, recipe_of, run_losses, try_paths, ways
from trainer.parallel.join import create_layout, leave

CPU = torch.device("cpu")


def tried(folder: Path, keys: dict[str, Any], plant: str | None) -> list[dict[str, Any]]:
    """Every attempt of one layout on this rank; `plant` names a collective that does nothing."""
    if plant is not None:
        setattr(dist, plant, lambda *_, **__: None)
    layout = create_layout(recipe_of(keys, CPU, folder))
    try:
        return [asdict(one) for one in (*try_collectives(layout), *try_sending(layout))]
    finally:
        leave()


def short(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    return [asdict(one) for one in try_paths(CPU, folder, lambda way: way.name in names)]


def test_two_ranks_send_and_add_up(tmp_path: Path) -> None:
    """Catches a group of the wrong ranks, and a sum or an order that is not what is expected."""
    for attempts in on_ranks(2, tried, tmp_path, {"parallel.tensor": 2}, None):
        states = {one["case"]: one["state"] for one in attempts}
        assert {f"{axis}: all_reduce" for axis in AXES} <= states.keys()
        for axis in ("world", "tensor", "model"):
            assert states[f"{axis}: batched send and receive"] == "ok", attempts
        # Groups of one rank have nobody else to send to.
        assert {state for case, state in states.items() if "send" not in case} == {"ok"}, attempts


def test_a_collective_that_does_nothing_is_caught(tmp_path: Path) -> None:
    """Negative control: on two ranks, a sum that nobody makes."""
    found = on_ranks(2, tried, tmp_path, {"parallel.tensor": 2}, "all_reduce")[0]
    failed = {one["case"] for one in found if one["state"] == "failed"}
    assert "tensor: all_reduce" in failed and "world: all_reduce" in failed
    assert not any("broadcast" in case for case in failed)


def test_one_rank_tries_every_collective(tmp_path: Path) -> None:
    """Catches a collective that cannot run alone; sending to oneself may be refused."""
    found = on_ranks(1, tried, tmp_path, {}, None)[0]
    assert {one["state"] for one in found} <= {"ok", "refused"}
    for one in found:
        assert one["state"] == "ok" or one["case"].endswith("batched send and receive")
    assert len([one for one in found if one["case"].endswith("barrier")]) >= len(AXES)


def test_the_schedules_make_one_curve(tmp_path: Path) -> None:
    """Catches a schedule that is not run, or that loses a micro-batch."""
    names = [
        *("fp32", "fp32 1F1B, one stage", "fp32 interleaved, one chunk"),
        *("fp32 interleaved, two chunks", "fp32 recompute mlp", "fp32 attention triton"),
    ]
    found = {one["case"]: one for one in on_ranks(1, short, tmp_path, names)[0]}
    assert list(found) == names
    states = {name: found[name]["state"] for name in names}
    assert [states[name] for name in names] == ["ok", "ok", "ok", "refused", "ok", "not run"], found
    assert "needs parallel.pipeline above 1" in found["fp32 interleaved, two chunks"]["reason"]
    assert found["fp32 attention triton"]["reason"] == "needs a GPU"
    losses = found["fp32"]["losses"]
    assert len(losses) == STEPS and losses[0] > losses[-1] > 0
    assert found["fp32 1F1B, one stage"]["losses"] == losses


def forced(folder: Path, pipeline: Any) -> str:
    """The schedule that the trained model went through."""
    from megatron.core.pipeline_parallel import schedules

    from trainer.doctor import pipelines
    from trainer.parallel import schedule

    seen = []
    for name, run in list(pipelines._SCHEDULES.items()):
        pipelines._SCHEDULES[name] = lambda name=name, run=run, **words: (  # type: ignore[misc]
            seen.append(name),
            run(**words),
        )[1]
    run_losses(recipe_of({}, CPU, folder), folder / "corpus", pipeline)
    assert schedule.get_forward_backward_func is schedules.get_forward_backward_func
    return " ".join(dict.fromkeys(seen))


@pytest.mark.parametrize("pipeline", ["1f1b", "interleaved", None])
def test_the_schedule_asked_for_is_the_one_that_runs(tmp_path: Path, pipeline: str | None) -> None:
    """Catches three names for the one schedule that megatron-core would choose anyway."""
    assert on_ranks(1, forced, tmp_path, pipeline)[0] == (pipeline or "")


def test_losses_that_differ_or_are_missing_fail() -> None:
    """Catches bounds that nothing exceeds, and a run that ended early."""
    first = (3.0, 2.0, 1.0)
    assert held((3.0, 2.0, 1.000009), first, "fp32")[0] == "largest difference 9e-06"
    for losses in ((3.0, 2.0, 1.0001), (3.0, 2.0, float("nan"))):
        with pytest.raises(AssertionError, match="losses differ by"):
            held(losses, first, "fp32")
    with pytest.raises(AssertionError, match="made 2 of 3 steps"):
        held((3.0, 2.0), first, "fp32")


def test_an_attempt_ends_in_one_line() -> None:
    """Catches a failure that takes the others with it, or that passes for a refusal."""

    def raises(error: Exception) -> Any:
        def action() -> str:
            raise error

        return action

    missing = ModuleNotFoundError("No module named 'deepspeed'", name="deepspeed")
    for error, may_refuse, state, reason in (
        (RuntimeError("a\n b"), False, "failed", "RuntimeError: a b"),
        (RuntimeError("a"), True, "refused", "RuntimeError: a"),
        (missing, False, "not run", "needs deepspeed, which is not installed"),
        (NotRunError("needs a GPU"), False, "not run", "needs a GPU"),
    ):
        one = attempt("case", raises(error), may_refuse)
        assert (one.state, one.reason) == (state, reason)
    assert attempt("case", lambda: ("found", (1.0,))).losses == (1.0,)


def test_every_way_is_one_of_a_known_precision() -> None:
    """Catches a way that is compared with the wrong first run, and two of one name."""
    found = list(ways())
    assert found[0] == Way("fp32")
    assert len({way.name for way in found}) == len(found)
    for way in found:
        assert way.name.split()[0] == way.keys.get("precision", "fp32")


def test_the_command_keeps_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a file written at the end only, and an exit code of 0 beside a failure."""
    file = tmp_path / "groups.json"

    def two(device: torch.device, folder: Path) -> Any:
        yield attempt("one", lambda: "well")
        assert json.loads(file.read_text())["attempts"][0]["state"] == "ok"
        yield attempt("two", lambda: collectives._held(torch.ones(1), torch.zeros(1)))

    monkeypatch.setattr(groups, "run_groups", two)
    assert groups.main([str(file), "--device", "cpu"]) == 1
    assert [one["state"] for one in json.loads(file.read_text())["attempts"]] == ["ok", "failed"]
    assert "two: failed (AssertionError: off by 1)" in capsys.readouterr().out
