"""Collectives, schedules and ways through a step are only worth checking if a wrong one is seen."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.parity.ranks import on_ranks
from trainer.cli import main
from trainer.doctor import collectives, self_test, waits
from trainer.doctor.check import NotRunError, check
from trainer.doctor.collectives import AXES, check_collectives, check_sending
from trainer.doctor.paths import STEPS, Way, check_paths, held, recipe_of, run_losses, ways
from trainer.observe.callback import RunStart
from trainer.observe.log import RankLog
from trainer.parallel.join import create_layout, leave
from trainer.recipe import Recipe

CPU = torch.device("cpu")


def tried(folder: Path, keys: dict[str, Any], plant: str | None) -> list[dict[str, Any]]:
    """Every check of one layout on this rank; `plant` names a collective that does nothing."""
    if plant is not None:
        setattr(dist, plant, lambda *_, **__: None)
    layout = create_layout(recipe_of(keys, CPU, folder))
    try:
        return [asdict(one) for one in (*check_collectives(layout), *check_sending(layout))]
    finally:
        leave()


def short(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    return [asdict(one) for one in check_paths(CPU, folder, lambda way: way.name in names)]


def test_two_ranks_send_and_add_up(tmp_path: Path) -> None:
    """Catches a group of the wrong ranks, and a sum or an order that is not what is expected."""
    for checks in on_ranks(2, tried, tmp_path, {"parallel.tensor": 2}, None):
        states = {one["name"]: one["state"] for one in checks}
        assert {f"{axis}: all_reduce" for axis in AXES} <= states.keys()
        for axis in ("world", "tensor", "model"):
            assert states[f"{axis}: batched send and receive"] == "ok", checks
        # Groups of one rank have nobody else to send to.
        assert {state for case, state in states.items() if "send" not in case} == {"ok"}, checks


def test_a_collective_that_does_nothing_is_caught(tmp_path: Path) -> None:
    """Negative control: on two ranks, a sum that nobody makes."""
    found = on_ranks(2, tried, tmp_path, {"parallel.tensor": 2}, "all_reduce")[0]
    failed = {one["name"] for one in found if one["state"] == "failed"}
    assert "tensor: all_reduce" in failed and "world: all_reduce" in failed
    assert not any("broadcast" in case for case in failed)


def test_one_rank_tries_every_collective(tmp_path: Path) -> None:
    """Catches a collective that cannot run alone; sending to oneself may be refused."""
    found = on_ranks(1, tried, tmp_path, {}, None)[0]
    assert {one["state"] for one in found} <= {"ok", "refused"}
    for one in found:
        assert one["state"] == "ok" or one["name"].endswith("batched send and receive")
    assert len([one for one in found if one["name"].endswith("barrier")]) >= len(AXES)


def test_the_schedules_make_one_curve(tmp_path: Path) -> None:
    """Catches a schedule that is not run, or that loses a micro-batch."""
    names = [
        *("fp32", "fp32 1F1B, one stage", "fp32 interleaved, one chunk"),
        *("fp32 interleaved, two chunks", "fp32 recompute mlp", "fp32 attention triton"),
    ]
    found = {one["name"]: one for one in on_ranks(1, short, tmp_path, names)[0]}
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
        one = check("case", raises(error), may_refuse)
        assert (one.state, one.reason) == (state, reason)
    assert check("case", lambda: ("found", (1.0,))).losses == (1.0,)


def test_every_way_is_one_of_a_known_precision() -> None:
    """Catches a way that is compared with the wrong first run, and two of one name."""
    found = list(ways())
    assert found[0] == Way("fp32")
    assert len({way.name for way in found}) == len(found)
    for way in found:
        assert way.name.split()[0] == way.keys.get("precision", "fp32")


def test_what_waits_is_named() -> None:
    """Catches a step that waits and passes, or whose waits nobody can find."""
    wait = {"where": "trainer/run.py:9 in step", "what": "item", "times": 7}
    assert waits.without_waits({"waits": [], "steps": 7}) == "no waits in 7 steps"
    found = check("waits: fp32", lambda: waits.without_waits({"waits": [wait], "steps": 7}))
    assert found.state == "failed"
    assert "waits in 7 steps: trainer/run.py:9 in step (item, 7x)" in found.reason


def planted(monkeypatch: pytest.MonkeyPatch, *right: bool) -> None:
    """The self-test as so many checks, of which some find what is wrong."""

    def run(device: torch.device, folder: Path) -> Any:
        for number, one in enumerate(right):
            found = torch.ones(1) if one else torch.zeros(1)
            yield check(
                f"check {number}", lambda found=found: collectives._held(found, torch.ones(1))
            )

    monkeypatch.setattr(self_test, "run_self_test", run)


def test_a_machine_that_is_right_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a check that is not printed, and a file that cannot be written found out last."""
    planted(monkeypatch, True, True)
    file = tmp_path / "doctor.json"
    assert main(["doctor", "--self-test", "--device", "cpu", "--json", str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        "check 0: ok (equal to the sum by hand)",
        "check 1: ok (equal to the sum by hand)",
        "2 checks, none failed",
    ]
    content = json.loads(file.read_text())
    assert content["backend"] == "gloo"
    assert [one["state"] for one in content["checks"]] == ["ok", "ok"]
    assert main(["doctor", "--self-test", "--json", str(tmp_path / "no" / "file")]) == 2
    assert "check 0" not in capsys.readouterr().out


def test_a_machine_that_is_wrong_is_exit_6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a failure that only a reader of the lines notices, or that ends the other checks."""
    planted(monkeypatch, True, False, True)
    file = tmp_path / "doctor.json"
    assert main(["doctor", "--self-test", "--device", "cpu", "--json", str(file)]) == 6
    shown = capsys.readouterr()
    assert "check 1: failed (AssertionError: off by 1)\ncheck 2: ok" in shown.out
    assert "1 of 3 checks failed, the first: check 1: AssertionError: off by 1" in shown.err
    states = [one["state"] for one in json.loads(file.read_text())["checks"]]
    assert states == ["ok", "failed", "ok"]


def test_what_the_runs_say_of_themselves_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a "done: step 10 of 10" between the checks; a run's log file lets INFO lines pass."""
    recipe = recipe_of({}, CPU, tmp_path)

    def run(device: torch.device, folder: Path) -> Any:
        log = RankLog()
        log.on_start(RunStart(folder, recipe, 1, 0, 1, device))
        logging.getLogger("trainer.data").warning("a shard is slow")
        log.on_stop("done", "step 10 of 10")
        assert "done: step 10 of 10" in (folder / "logs" / "rank-0.log").read_text()
        yield check("run", lambda: "done")

    monkeypatch.setattr(self_test, "run_self_test", run)
    levels = [handler.level for handler in logging.getLogger().handlers]
    assert main(["doctor", "--self-test", "--device", "cpu"]) == 0
    assert [record.getMessage() for record in caplog.records] == ["a shard is slow"]
    assert [handler.level for handler in logging.getLogger().handlers] == levels


def test_only_the_self_test_exists(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a machine called right because nothing was asked of it."""
    assert main(["doctor"]) == 2
    assert "has no other checks yet than those of --self-test" in capsys.readouterr().err


def whole(folder: Path, names: set[str]) -> list[dict[str, Any]]:
    """The self-test of this rank, with only these ways through a step and one of the waits."""
    import trainer.doctor.paths

    chosen = [way for way in ways() if way.name in names]
    trainer.doctor.paths.ways = lambda: iter(chosen)
    for way in list(waits.WAYS)[1:]:
        del waits.WAYS[way]
    right = waits.made_recipe

    def without_workers(*words: Any) -> Recipe:  # this rank is a daemon, and may start none
        keys = right(*words).model_dump(mode="json")
        return Recipe.from_keys(keys | {"data": keys["data"] | {"workers": 0}})

    waits.made_recipe = without_workers
    return [asdict(one) for one in self_test.run_self_test(CPU, folder)]


def test_the_self_test_goes_through_all_its_kinds(tmp_path: Path) -> None:
    """Catches a kind of check that nothing calls, or that the one before it breaks."""
    found = on_ranks(1, whole, tmp_path, {"fp32", "fp32 recompute mlp"})[0]
    names = [one["name"] for one in found]
    for name in ("world: all_reduce", "fp32 recompute mlp", "waits: fp32, logits"):
        assert found[names.index(name)]["state"] == "ok", found
    assert names[-1].endswith("batched send and receive"), "what may hang comes last"
    assert {one["state"] for one in found} <= {"ok", "refused"}
