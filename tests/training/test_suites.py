"""Suites while a run trains: they change nothing, are resumed, choose the best, and are gates."""

import json
import os
import shutil
import signal
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ranks import Died, on_ranks
from tests.training.runs import losses, recipe_of
from tests.training.sets import tuning_recipe, write_sets
from tests.training.suites import (
    examined_folders,
    figures,
    measured_recipe,
    train_measured,
    train_signalled,
)
from trainer.checkpoint import latest_checkpoint, list_checkpoints, resolve_checkpoint
from trainer.checkpoint.best import BestCheckpoint, promote, read_best
from trainer.evaluate.respondent import NOT_FINITE
from trainer.observe import read_metrics, read_status

EVENTS = "tensorboard.backend.event_processing.event_accumulator"
NOT_LEARNED = (
    *("eval/", "step_seconds", "tokens_per_second", "tflops", "memory_gib"),
    *("goodput", "lost_", "save", "slow_"),
)


def learned(run: Path) -> list[dict[str, Any]]:
    """The records of a run without what is measured, or takes time."""
    return [
        {key: value for key, value in record.items() if not key.startswith(NOT_LEARNED)}
        for record in read_metrics(run)
    ]


def steps_of_best(run: Path) -> list[int]:
    """The steps that were the best of a run, one after the other."""
    best = read_best(run)
    assert best is not None
    return [one.step for one in best.promotions]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A folder of runs of eight steps: with suites, without, and with another best; and of one."""
    folder = tmp_path_factory.mktemp("whole")
    keys = {"steps": 8, "checkpoint__keep": 1}
    with_suites = measured_recipe(
        folder / "with", corpus, **keys, evaluate__suites_every=3, checkpoint__best="eval/tiny/nats"
    )
    without = recipe_of(folder / "without", corpus, **keys)
    worst = measured_recipe(
        folder / "worst",
        corpus,
        **keys,
        evaluate__suites_every=3,
        evaluate__every=1,
        checkpoint__best="eval/tiny/letters",
    )
    likely = worst.replaced({"checkpoint.best": "eval/loss", "evaluate.gates": ["tiny/nats > 6"]})
    likely = likely.replaced({"run": str(folder / "likely")})
    unsaved = measured_recipe(
        *(folder / "unsaved", corpus),
        **{"steps": 1, "checkpoint__save_final": False, "evaluate__gates": ["tiny/nats < 0"]},
    )
    ended = on_ranks(1, train_measured, with_suites, without, worst, likely, unsaved)[0]
    assert ended[:2] == [None, None]
    (folder / "ended.json").write_text(json.dumps(ended[2:]))
    return folder


def test_measuring_changes_nothing_that_is_learned(whole: Path) -> None:
    """Catches draws taken from training's, a model left in evaluation mode, gradients touched."""
    assert learned(whole / "with") == learned(whole / "without")
    weights = [
        latest_checkpoint(whole / run) / "rank-00000.safetensors"  # type: ignore[operator]
        for run in ("with", "without")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_figures_stand_in_the_records_of_their_steps(whole: Path) -> None:
    """Catches an evaluation a step late, a last step left out, and figures that never move."""
    assert list(figures(whole / "with")) == [3, 6, 8]
    assert len(set(figures(whole / "with").values())) == 3
    assert figures(whole / "with", "undefined") == dict.fromkeys([3, 6, 8])
    folders = sorted(path.name for path in (whole / "with" / "evaluations").iterdir())
    assert folders == ["step-00000003", "step-00000006", "step-00000008"]
    for step, folder in zip((3, 6, 8), folders, strict=True):
        records = (whole / "with" / "evaluations" / folder / "tiny.jsonl").read_text().splitlines()
        nats = [json.loads(record)["nats"] for record in records]
        assert sum(nats) / 5 == pytest.approx(figures(whole / "with")[step])


def test_the_best_is_the_one_with_the_best_figure(whole: Path) -> None:
    """Catches the newest taken for the best, a step that was not saved, and one rotated away."""
    run = whole / "with"
    by_step = figures(run)
    step = min(by_step, key=lambda step: by_step[step])
    best = read_best(run)
    assert best is not None
    assert best.best is not None
    assert (best.best.step, best.best.value) == (step, by_step[step])
    assert resolve_checkpoint(run / "checkpoints" / "best").name == f"step-{step:08}"
    assert {c.step for c in list_checkpoints(run)} == {step, 8}


def test_a_figure_that_is_good_neither_way_chooses_nothing(whole: Path) -> None:
    """Catches a direction that is guessed; nothing is trained before the line."""
    kind, line = json.loads((whole / "ended.json").read_text())[0]
    assert kind == "RecipeError"
    assert "'eval/tiny/letters': neither more nor less of it is better" in line
    assert read_metrics(whole / "worst") == []


def test_by_the_loss_only_a_step_that_passed_its_gates_is_the_best(whole: Path) -> None:
    """Catches a gate that is forgotten between two measurements of the suites.

    The loss falls with every step; tiny/nats > 6 holds while the model knows nothing yet.
    """
    kind, line = json.loads((whole / "ended.json").read_text())[1]
    run = whole / "likely"
    passing = [step for step, nats in figures(run).items() if nats > 6]
    assert passing
    assert passing != [3, 6, 8]
    assert steps_of_best(run) == passing
    assert kind == "GateError"
    assert "1 of 1 gates failed after step 8" in line
    assert f"tiny/nats is {figures(run)[8]:.4g} [" in line
    assert f"below 6 by {6 - figures(run)[8]:.4g}" in line


def test_a_failed_gate_ends_the_run_with_its_code(whole: Path) -> None:
    """Catches a verdict that a scheduler cannot read, and a model lost with it."""
    status = read_status(whole / "likely")
    assert status is not None
    assert (status["state"], status["exit_code"], status["step"]) == ("failed", 5, 8)
    assert "tiny/nats is" in status["reason"]
    newest = latest_checkpoint(whole / "likely")
    assert newest is not None
    assert newest.name == "step-00000008"
    _, likely, unsaved = json.loads((whole / "ended.json").read_text())
    assert "after step 8, which is saved: " in likely[1]
    assert "after step 1, which is not saved (checkpoint.save_final): " in unsaved[1]
    assert latest_checkpoint(whole / "unsaved") is None


def test_a_finished_run_has_its_verdict_again_without_measuring(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Catches a second start that says "done" of a failed run; other gates may then pass.

    Catches, too, a figure that is sent to the trackers once more with every start.
    """
    shutil.copytree(whole / "likely", tmp_path / "run", symlinks=True)
    keys = {"steps": 8, "evaluate__suites_every": 3, "evaluate__every": 1}
    failing = measured_recipe(tmp_path / "run", corpus, **keys, evaluate__gates=["tiny/nats > 6"])
    failing = failing.replaced({"observe.tensorboard": True})
    passing = failing.replaced({"evaluate.gates": ["tiny/nats < 6", "tiny/seen > 0"]})
    missing = failing.replaced({"evaluate.gates": ["tiny/nobody < 6", "tiny/undefined < 6"]})
    before = read_metrics(tmp_path / "run")
    assert on_ranks(1, examined_folders, failing, passing, missing)[0] == [[], [], []]
    shorter = failing.replaced({"steps": 7})
    first, second, third, fourth = on_ranks(1, train_measured, failing, passing, missing, shorter)[
        0
    ]
    assert first[0] == fourth[0] == "GateError"
    assert second is None
    assert "tiny/nobody was not measured" in third[1]
    assert "tiny/undefined is not defined over its 5 items" in third[1]
    assert read_metrics(tmp_path / "run") == before
    events = import_module(EVENTS).EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    assert events.Reload().Tags()["scalars"] == []


def test_a_stop_while_suites_are_measured_is_resumed(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Catches a stop that waits for all suites, and an examination begun anew or left out.

    The 7th judged item is the second of step 6, the 12th the second of the last step.
    """
    keys: dict[str, Any] = {"steps": 8, "evaluate__suites_every": 3}
    keys["checkpoint__best"] = "eval/tiny/nats"
    for items, step in ((7, 6), (12, 8)):
        recipe = measured_recipe(tmp_path / f"at-{step}", corpus, **keys)
        run = Path(recipe.run)
        ((kind, line),) = on_ranks(1, train_signalled, recipe, signal.SIGTERM, items)[0]
        assert (kind, f"stopped after step {step} on SIGTERM" in line) == ("StopRequested", True)
        assert step not in figures(run)
        assert len(read_metrics(run)) == step
        records = run / "evaluations" / f"step-{step:08}" / "tiny.jsonl"
        assert len(records.read_text().splitlines()) == 2
        assert on_ranks(1, train_measured, recipe)[0] == [None]
        found = json.loads((records.parent / "figures.json").read_text())
        assert found["suites"]["tiny"]["result"]["before"] == 2
        # What is asked together decides the order of sums.
        assert figures(run) == pytest.approx(figures(whole / "with"), rel=1e-6)
        assert losses(recipe) == [record["loss"] for record in read_metrics(whole / "with")]
        assert steps_of_best(run) == steps_of_best(whole / "with")


def test_what_was_measured_before_a_crash_is_not_measured_again(
    corpus: Path, tmp_path: Path
) -> None:
    """Catches a replayed step that is asked anew, and answers of another course that are taken."""
    keys = {"steps": 6, "checkpoint__every": 3}
    recipe = measured_recipe(tmp_path / "run", corpus, **keys)
    with pytest.raises(Died):  # when four items of step 4 are recorded; step 3 is saved
        on_ranks(1, train_signalled, recipe, signal.SIGKILL, 10)
    shutil.copytree(tmp_path / "run", tmp_path / "other", symlinks=True)
    other = recipe.replaced({"run": str(tmp_path / "other"), "optimizer.lr": 5e-3})
    assert on_ranks(1, examined_folders, recipe)[0] == [["step-00000004", "step-00000006"]]
    assert on_ranks(1, partial(train_measured, force=True), other)[0] == [None]
    known = [
        json.loads((tmp_path / run / "evaluations/step-00000004/figures.json").read_text())
        for run in ("run", "other")
    ]
    assert [one["suites"]["tiny"]["result"]["before"] for one in known] == [4, 0]


def test_a_base_is_measured_once_and_what_is_worse_fails(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Catches a base measured on trained weights, or again; and gates that come with a resume.

    The base was trained for eight steps: more of the same makes tiny/nats better, not worse.
    """
    keys = {"init_from": str(whole / "without"), "checkpoint__every": 2, "steps": 2}
    gates = ["tiny/nats within 1%", "tiny/seen within 0.001%"]
    first = measured_recipe(tmp_path / "run", corpus, **keys, evaluate__gates=gates)
    later = measured_recipe(tmp_path / "late", corpus, **keys)
    longer = [one.replaced({"steps": 4, "schedule.length": 2}) for one in (first, later)]
    longer[1] = longer[1].replaced({"evaluate.gates": gates})
    asked = on_ranks(1, examined_folders, first, later, *longer)[0]
    steps = ["step-00000002"], ["step-00000004"]
    assert asked == [["base", *steps[0]], steps[0], steps[1], ["base", *steps[1]]]
    bases = [
        json.loads((tmp_path / run / "evaluations/base/figures.json").read_text())["suites"]
        for run in ("run", "late")
    ]
    assert bases[0] == bases[1]
    expected = figures(whole / "with")[8]
    assert bases[0]["tiny"]["result"]["figures"]["nats"]["value"] == pytest.approx(expected)
    assert losses(longer[0]) == losses(longer[1])


@pytest.mark.parametrize("named", ["run", "best", "relative"])
def test_a_base_that_is_gone_is_compared_with_as_it_was_measured(
    named: str, whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Catches a resume that is refused for a base whose figures the run has stored.

    Also where the recipe spells the base's path otherwise than at the start.
    """
    base = tmp_path / "base"
    shutil.copytree(whole / "with", base, symlinks=True)
    best = base / "checkpoints" / "best"
    init_from = {"best": best}.get(named, base)
    keys = {"init_from": str(init_from), "steps": 2, "evaluate__gates": ["tiny/nats within 1%"]}
    first = measured_recipe(tmp_path / "run", corpus, **keys)
    assert on_ranks(1, train_measured, first)[0] == [None]
    stored = (tmp_path / "run/evaluations/base/figures.json").read_text()
    shutil.rmtree(base)
    shutil.rmtree(tmp_path / "run/evaluations/step-00000002")
    longer = first.replaced({"steps": 4, "schedule.length": 2})
    if named == "relative":
        longer = longer.replaced({"init_from": os.path.relpath(base)})
    assert on_ranks(1, train_measured, longer, longer)[0] == [None, None]
    assert (tmp_path / "run/evaluations/base/figures.json").read_text() == stored
    # Of other items the base has no figures: a gate on them would compare unlike with like.
    kind, line = (
        on_ranks(1, train_measured, longer.replaced({"evaluate.limit": 2}))[0][0] or ("",) * 2
    )
    assert kind == "RecipeError" and "'tiny/nats within 1%' compares with" in line
    assert "which is gone, and " in line and "evaluations/base holds no figures" in line


def test_a_best_over_other_items_does_not_count(whole: Path, corpus: Path, tmp_path: Path) -> None:
    """Catches a figure over five questions that one over two of them never beats, or always.

    Nor does one that fails a gate over the items of now, from this launch on.
    Negative control: over the same items a finished run keeps its best.
    """
    shutil.copytree(whole / "with", tmp_path / "run", symlinks=True)
    keys = {"steps": 8, "checkpoint__keep": 1, "evaluate__suites_every": 3}
    same = measured_recipe(tmp_path / "run", corpus, **keys, checkpoint__best="eval/tiny/nats")
    fewer = same.replaced({"evaluate.limit": 2})
    assert on_ranks(1, train_measured, same)[0] == [None]
    best = read_best(tmp_path / "run")
    assert best is not None and best.best is not None
    assert (best.best.step, best.best.value) == (8, figures(whole / "with")[8])
    shutil.copytree(tmp_path / "run", tmp_path / "gated", symlinks=True)
    gates = [f"tiny/nats <= {figures(whole / 'with')[8] + 1e-6}"]
    gated = fewer.replaced({"run": str(tmp_path / "gated"), "evaluate.gates": gates})
    ends = on_ranks(1, train_measured, fewer, gated)[0]
    assert ends[0] is None and ends[1] is not None and ends[1][0] == "GateError"
    assert steps_of_best(tmp_path / "gated") == []
    best = read_best(tmp_path / "run")
    assert best is not None and best.best is not None
    assert best.promotions == (best.best,)
    assert (best.best.step, best.best.value) == (8, figures(tmp_path / "run")[8])
    assert best.best.value > figures(whole / "with")[8]


def test_a_best_by_an_older_version_stays_until_another_is_promoted(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Catches a best that is unlinked, and rotated away, as its suite is of a newer version now.

    So is one whose records are gone; a run that had ended does not make its last step the best
    instead. Negative controls: one by the same version is compared with, and beaten by step 8; one
    that the model's divergence chose does not count, whatever the version.
    """
    step = steps_of_best(whole / "likely")[-1]
    older = BestCheckpoint("eval/tiny/nats", "lower")
    older = older.promoted(step, figures(whole / "likely")[step])
    keys = {"steps": 8, "checkpoint__keep": 1, "evaluate__suites_every": 3}
    recipes = {}
    for name in ("same", "rules", "gone", "diverged", "rules, diverged"):
        run = tmp_path / name
        shutil.copytree(whole / "likely", run, symlinks=True)
        promote(run, older)
        file = run / "evaluations" / f"step-{step:08}" / "figures.json"
        stored = json.loads(file.read_text())
        if name == "gone":
            shutil.rmtree(file.parent)
        else:
            tiny = stored["suites"]["tiny"]
            tiny["settings"]["rules"] -= "rules" in name
            tiny["result"]["failed"] = {NOT_FINITE: 1} if "diverged" in name else {}
            file.write_text(json.dumps(stored))
        recipes[name] = measured_recipe(run, corpus, **keys, checkpoint__best="eval/tiny/nats")
    ended = on_ranks(1, train_measured, *recipes.values())[0]
    assert ended == [None] * 5
    found = {name: steps_of_best(tmp_path / name) for name in recipes}
    assert found == {
        **{"same": [step, 8], "rules": [step], "gone": [step]},
        **{"diverged": [8], "rules, diverged": [8]},
    }
    assert (tmp_path / "rules/checkpoints/best").readlink().name == f"step-{step:08}"
    longer = recipes["rules"].replaced({"steps": 9, "schedule.length": 8})
    assert on_ranks(1, train_measured, longer)[0] == [None]
    assert steps_of_best(tmp_path / "rules") == [9]


def test_a_best_by_the_loss_that_passed_an_older_versions_gate_stays(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Catches a loss that is no bar any more, since the suite of a gate is of a newer version.

    Negative control: one whose stored figures fail the gates of now does not count.
    """
    step = steps_of_best(whole / "likely")[-1]
    keys = {"steps": 8, "evaluate__suites_every": 3, "evaluate__every": 1}
    keys["checkpoint__best"] = "eval/loss"
    recipes = []
    for name, gate in (("passes", "tiny/nats > 6"), ("fails", "tiny/nats > 99")):
        shutil.copytree(whole / "likely", tmp_path / name, symlinks=True)
        file = tmp_path / name / "evaluations" / f"step-{step:08}" / "figures.json"
        stored = json.loads(file.read_text())
        stored["suites"]["tiny"]["settings"]["rules"] -= 1
        file.write_text(json.dumps(stored))
        recipes.append(measured_recipe(tmp_path / name, corpus, **keys, evaluate__gates=[gate]))
    assert [one and one[0] for one in on_ranks(1, train_measured, *recipes)[0]] == ["GateError"] * 2
    assert steps_of_best(tmp_path / "passes")[-1] == step
    assert steps_of_best(tmp_path / "fails") == []


def test_what_cannot_be_measured_ends_a_run_before_it_begins(corpus: Path, tmp_path: Path) -> None:
    """Catches a gate on nothing that is found after hours of training."""
    refused = {
        "evaluate.suites: evaluate.tasks_path nowhere: no such folder": {
            "evaluate__suites": ["tony"],
            "evaluate__tasks_path": "nowhere",
        },
        "evaluate.gates: 'tiny/nat < 3': the suite tiny gives no figure nat; did you mean nats?": {
            "evaluate__gates": ["tiny/nat < 3"]
        },
        "checkpoint.best: 'eval/tiny/sen': the suite tiny gives no figure sen; did you mean": {
            "checkpoint__best": "eval/tiny/sen"
        },
        "evaluate.suites: tiny: has no questions for seed 99; name another; or leave tiny out": {
            "evaluate__seed": 99
        },
        "evaluate.gates: 'tiny/undefined within 1%': tiny/undefined is not defined for": {
            "evaluate__gates": ["tiny/undefined within 1%"],
            "init_from": str(tmp_path / "base"),
        },
        "evaluate.gates: 'tiny/nats within 1%': tiny/nats is not defined for "
        f"{tmp_path}/short/checkpoints/step-00000001, which the run starts from (5 of 5 items "
        "failed: too long (5)); give a number": {
            "evaluate__gates": ["tiny/nats within 1%"],
            "init_from": str(tmp_path / "short"),
            "sequence_length": 4,
        },
    }
    base = recipe_of(tmp_path / "base", corpus, steps=1)
    short = recipe_of(tmp_path / "short", corpus, steps=1, sequence_length=4)
    recipes = [measured_recipe(tmp_path / "run", corpus, **keys) for keys in refused.values()]
    blocked = measured_recipe(tmp_path / "blocked", corpus)
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "evaluations").touch()
    starts = (base, short)
    (first, second, *ended, unwritten) = on_ranks(1, train_measured, *starts, *recipes, blocked)[0]
    assert first is second is None
    assert unwritten is not None
    assert unwritten[0] == "TrainingError"
    assert unwritten[1].endswith("Not a directory; mend that, and the same command goes on")
    for found, line in zip(ended, refused, strict=True):
        assert found is not None
        assert found[0] in ("RecipeError", "SuiteUnavailable")
        assert found[1].startswith(line)
    assert read_metrics(tmp_path / "run") == []
    status = read_status(tmp_path / "run")
    assert status is not None
    assert status["exit_code"] == 2


def test_adapters_are_measured_against_their_base_at_another_layout(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Catches adapters left on while the base is measured, or lost once it was, by a resume.

    The gate comes with the resume, on two ranks, after two steps on one.
    """
    write_sets(tmp_path)
    keys: dict[str, Any] = {
        "lora": {"rank": 4, "targets": ["q_proj", "v_proj"]},
        "evaluate": {"suites": ["tiny"], "suites_every": 2},
        "conversations__template": "chatml",
    }
    first = tuning_recipe(tmp_path / "run", whole / "without", tmp_path, "sft", steps=2, **keys)
    plain = first.replaced({"steps": 4, "parallel.tensor": 2})
    gated = plain.replaced({"evaluate.gates": ["tiny/nats within 500%"]})
    gated = gated.replaced({"run": str(tmp_path / "gated")})
    assert on_ranks(1, train_measured, first)[0] == [None]
    shutil.copytree(tmp_path / "run", tmp_path / "gated", symlinks=True)
    for recipe in (plain, gated):
        assert on_ranks(2, train_measured, recipe) == [[None]] * 2
    assert losses(gated) == losses(plain)
    assert figures(tmp_path / "gated") == figures(tmp_path / "run")
    content = json.loads((tmp_path / "gated/evaluations/base/figures.json").read_text())
    base = content["suites"]["tiny"]["result"]["figures"]["seen"]["value"]
    assert base == pytest.approx(figures(whole / "with", "seen")[8], abs=1e-4)
    assert base != pytest.approx(figures(tmp_path / "gated", "seen")[4], abs=1e-2)
