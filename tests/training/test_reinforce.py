"""Reinforcement is training: every layout learns the same, and a stopped run goes on exactly."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ranks import Died, on_ranks
from tests.training.questions import reinforcing_recipe, write_questions
from tests.training.runs import losses, recipe_of, train_here, train_until
from trainer.evaluate.opened import open_model
from trainer.merging.command import merge_checkpoints
from trainer.observe import read_metrics
from trainer.recipe import Recipe
from trainer.trace import trace_command

TOLERANCE = 1e-5
"""Of a loss over 4 steps; rounding alone gives about 1e-6."""

LAGGING: dict[str, Any] = {"reinforce__updates": 2, "reinforce__passes": 2, "steps": 5}
HELD: dict[str, Any] = {
    **{"lora": {"rank": 4, "alpha": 8.0}, "optimizer__lr": 2e-2},
    **{"reinforce__beta": 0.3, "reinforce__importance": "sequence", "reinforce__updates": 2},
    **{"reinforce__temperature": 0.8, "reinforce__top_k": 200},
    # Adam makes whole steps of what is rounding where a gradient is next to nothing.
    "optimizer__eps": 1e-5,
}
COPIED: dict[str, Any] = LAGGING | {"reinforce__beta": 0.3, "reinforce__reference": "copy"}
KINDS = {"lagging": LAGGING, "held": HELD, "copied": COPIED}

LAYOUTS: list[tuple[int, str, dict[str, Any]]] = [
    (2, "lagging", {"parallel__tensor": 2}),
    (2, "held", {"parallel__tensor": 2, "parallel__sequence": True}),
    (2, "held", {"parallel__pipeline": 2}),
    (2, "lagging", {"parallel__pipeline": 2, "parallel__virtual": 2}),
    (2, "held", {"parallel__context": 2}),
    (2, "held", {"zero__stage": 1}),
    (2, "lagging", {"zero__stage": 2}),
    (2, "held", {"zero__stage": 3}),
    (1, "held", {"batch__micro": 1}),
    (1, "held", {"reinforce__reference": "copy"}),
    (2, "copied", {"parallel__tensor": 2, "parallel__sequence": True}),
    (2, "copied", {"parallel__pipeline": 2, "parallel__virtual": 2}),
    (2, "copied", {"zero__stage": 3}),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A pre-trained run, and beside it the questions."""
    folder = tmp_path_factory.mktemp("reinforcing")
    assert on_ranks(1, train_here, recipe_of(folder / "base", corpus, steps=4)) == [None]
    write_questions(folder)
    return folder / "base"


def train_all(recipes: list[Recipe]) -> list[tuple[str, str] | None]:
    """On each rank: one run after the other."""
    return [train_here(recipe) for recipe in recipes]


def made(run: Path, base: Path, kind: str, **keys: Any) -> Recipe:
    return reinforcing_recipe(run, base, base.parent, **KINDS[kind] | keys)


@pytest.fixture(scope="module")
def alone(base: Path) -> dict[str, Path]:
    """The runs of one process."""
    recipes = {kind: made(base.with_name(kind), base, kind) for kind in KINDS}
    assert on_ranks(1, train_all, list(recipes.values())) == [[None] * len(recipes)]
    return {kind: Path(recipe.run) for kind, recipe in recipes.items()}


def samples(run: Path) -> list[dict[str, Any]]:
    """Every answer of a run, in the order of its samplings."""
    return [
        json.loads(line)
        for path in sorted((run / "samples").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


@pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda layout: "-".join(map(str, (layout[1], *layout[2].items())))
)
def test_every_layout_learns_what_one_process_learns(alone, base, tmp_path, layout) -> None:
    """Catches answers that replicas write twice, a ratio to another rank's log-probabilities, an
    answer cut between context ranks, and an entropy over a part of the vocabulary.
    """
    ranks, kind, keys = layout
    recipe = made(tmp_path / "run", base, kind, **keys)
    assert on_ranks(ranks, train_here, recipe) == [None] * ranks
    found, expected = (read_metrics(run) for run in (Path(recipe.run), alone[kind]))
    assert len(found) == len(expected) == recipe.steps
    for mine, theirs in zip(found, expected, strict=True):
        # Which rank is slow is the machine's word, not the layout's.
        keys = [{key for key in one if not key.startswith("slow_")} for one in (mine, theirs)]
        assert keys[0] == keys[1]
        for name, value in theirs.items():
            if name == "loss" or (name.startswith("reinforce/") and "seconds" not in name):
                assert mine[name] == pytest.approx(value, abs=TOLERANCE, rel=1e-6), name
    assert found[-1]["grad_norm"] == pytest.approx(expected[-1]["grad_norm"], rel=1e-4)
    same = ("question", "tokens", "outcome", "advantage", "update", "row", "start")
    for mine, theirs in zip(samples(Path(recipe.run)), samples(alone[kind]), strict=True):
        assert [mine[name] for name in same] == [theirs[name] for name in same]


def read_and_merge(runs: dict[str, Path], into: Path) -> list[str]:
    """The stage of each run as it is opened, and that of their merger; on one rank."""
    found = []
    for run in (*runs.values(), merge_checkpoints(list(runs.values()), None, into)):
        with open_model(run, 1) as opened:
            found.append(opened.recipe.stage)
    return found


def test_what_was_reinforced_is_read_and_merged_as_any_other(alone, tmp_path) -> None:
    """Catches rules of training, as of a base and of groups, that refuse a model its readers."""
    stages = on_ranks(1, read_and_merge, alone, tmp_path / "merged")
    assert stages == [["reinforce"] * (len(KINDS) + 1)]


def test_ratios_are_one_until_the_policy_has_moved(alone) -> None:
    """Catches a ratio to the generator's log-probabilities, and a lag that is not what it says."""
    records = read_metrics(alone["lagging"])
    assert [record["reinforce/lag"] for record in records] == [0, 1, 2, 3, 0]
    ratios = [record["reinforce/ratio"] for record in records]
    assert ratios[0] == ratios[4] == 1.0
    assert all(abs(ratio - 1.0) > 1e-4 for ratio in ratios[1:4])
    assert max(record["reinforce/clipped_low"] for record in records) >= 0.0
    firsts = [path.stem for path in sorted((alone["lagging"] / "samples").iterdir())]
    assert firsts == ["step-00000001", "step-00000005"]


@pytest.mark.parametrize("kind", ["lagging", "copied"])
def test_a_run_killed_between_a_sampling_and_its_last_step_goes_on_bitwise(
    base, alone, tmp_path, kind
) -> None:
    """Catches answers written anew by weights that have moved, draws that follow a history, and a
    frozen copy of the weights that the run resumed with.
    """
    # In the background, the kill could come before the checkpoint is whole.
    saves = {"checkpoint__every": 2, "checkpoint__background": False}
    recipe = made(tmp_path / "run", base, kind, **saves)
    with pytest.raises(Died):
        on_ranks(1, train_until, recipe, 3, signal.SIGKILL)
    saved = tmp_path / "run/checkpoints"
    kept = (saved / "step-00000002/stage/samples.jsonl").read_bytes()
    assert kept.count(b"\n") == 32
    assert on_ranks(1, train_here, recipe) == [None]
    assert losses(recipe) == [record["loss"] for record in read_metrics(alone[kind])]
    assert samples(Path(recipe.run)) == samples(alone[kind])
    assert not (saved / "step-00000004/stage/samples.jsonl").exists(), "the next step asks anew"


def test_a_policy_diverges_from_its_frozen_copy_as_it_moves(alone) -> None:
    """Catches a copy that learns with the policy, or that has other weights from the beginning."""
    divergence = [record["reinforce/kl"] for record in read_metrics(alone["copied"])]
    assert abs(divergence[0]) < 1e-9 and all(value > 1e-6 for value in divergence[1:])


def test_a_run_is_not_held_to_another_base_on_resume(base, alone, tmp_path) -> None:
    """Catches a reference that changes with what init_from names, as no other key tells."""
    recipe = made(tmp_path / "run", base, "copied", steps=2)
    assert on_ranks(1, train_here, recipe) == [None]
    others = {"init_from": str(alone["lagging"]), "steps": 3}
    kind, line = told(recipe.replaced(others))
    assert kind == "CheckpointError" and f"init_from: {alone['lagging']}" in line
    assert f"put that back, as init_from={base}/checkpoints/step-00000004, or" in line


LEARNING: dict[str, Any] = {
    **{"steps": 24, "batch__sequences": 32, "batch__micro": 4, "optimizer__lr": 5e-3},
    **{"reinforce__group": 8, "reinforce__tokens": 4},
}


def test_a_reward_is_earned_more_often_and_its_opposite_less(base, tmp_path) -> None:
    """Catches a loss of the wrong sign, advantages of another answer, and a policy that stays.

    The negative control is the same run with the rewards' signs turned.
    """
    turned = {"right": -1.0, "declined": 0.0, "wrong": 1.0, "declined_unknowable": -1.0}
    recipes = [
        reinforcing_recipe(tmp_path / name, base, base.parent, **LEARNING, **keys)
        for name, keys in (("plain", {}), ("turned", {"reinforce__rewards": turned}))
    ]
    assert on_ranks(1, train_all, recipes) == [[None] * 2]
    first, last = [], []
    for recipe in recipes:
        shares = [r["reinforce/knowable_right"] for r in read_metrics(Path(recipe.run))]
        first.append(sum(shares[:3]) / 3)
        last.append(sum(shares[-3:]) / 3)
    assert all(0.1 < share < 0.9 for share in first)
    assert last[0] > first[0] + 0.3
    assert last[1] < first[1] - 0.15


def told(recipe: Recipe) -> tuple[str, str]:
    """The kind and the line of the error that ends the run."""
    (failure,) = on_ranks(1, train_here, recipe)
    assert failure is not None and "\n" not in failure[1]
    return failure


def test_a_reward_that_is_constant_in_every_group_ends_the_run(base, tmp_path) -> None:
    """Catches a run that trains for days on advantages of 0."""
    keys = {"reinforce__rewards__right": -1.0, "reinforce__constant_in_a_row": 2}
    recipe = reinforcing_recipe(tmp_path / "run", base, base.parent, **keys)
    kind, line = told(recipe)
    assert kind == "TrainingError" and line.startswith("step 2: in every group")
    assert "(-1), 2 samplings in a row" in line
    assert [r["reinforce/constant_groups"] for r in read_metrics(tmp_path / "run")] == [1.0]
    assert len(list((tmp_path / "run/samples").iterdir())) == 2, "to be looked at"


@pytest.mark.parametrize(
    ("item", "keys", "words"),
    [
        (None, {}, ["absent.jsonl"]),
        ({"question": "How many?", "answer": "many", "verifier": "number"}, {}, ["line 1"]),
        ({"question": "What? " * 60, "answer": "tea"}, {}, ["line 1", "sequence_length 96"]),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(base, tmp_path, item, keys, words) -> None:
    """Catches a run that fails at the step in which such a question comes."""
    path = tmp_path / ("absent.jsonl" if item is None else "questions.jsonl")
    if item is not None:
        path.write_text(json.dumps(item) + "\n", encoding="utf-8")
    recipe = reinforcing_recipe(
        tmp_path / "run", base, tmp_path, reinforce__questions=[str(path)], **keys
    )
    kind, line = told(recipe)
    assert kind == "DataError"
    for word in words:
        assert word in line


def test_other_questions_are_refused_on_resume(base, alone, tmp_path) -> None:
    """Catches answers that are put beside another question's after a file was changed."""
    folder = tmp_path / "questions"
    folder.mkdir()
    path = write_questions(folder)
    recipe = reinforcing_recipe(tmp_path / "run", base, folder, steps=2)
    assert on_ranks(1, train_here, recipe) == [None]
    path.write_text(path.read_text(encoding="utf-8").replace("What is a?", "What is z?"))
    kind, line = told(recipe.replaced({"steps": 3}))
    assert kind == "DataError" and "reinforce.questions: are others" in line


def test_a_step_is_traced_to_its_questions(base, alone, capsys) -> None:
    """Catches a trace that names another update of the sampling, or another row."""
    trace_command(alone["lagging"], 4)  # the second pass over the second update
    printed = capsys.readouterr().out
    lines = [line.split("│") for line in printed.splitlines() if line.startswith("│")]
    shown = [(int(cells[1]), cells[3].strip()) for cells in lines]
    own = [one for one in samples(alone["lagging"])[:32] if one["update"] == 1]
    expected = sorted((one["row"], one["start"], one["question"]) for one in own)
    assert shown == [(row, question) for row, _, question in expected]
    assert "sampled before step 1" in printed
