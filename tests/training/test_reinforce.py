"""Reinforcement is training: every layout learns the same, and a stopped run goes on exactly."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ranks import Died, on_ranks
from tests.training.questions import reinforcing_recipe, write_questions
from tests.training.runs import losses, recipe_of, train_here, train_until
from trainer.observe import read_metrics
from trainer.recipe import Recipe

TOLERANCE = 1e-5
"""Of a loss over 4 steps; rounding alone gives about 1e-6."""

LAGGING: dict[str, Any] = {"reinforce__updates": 2, "reinforce__passes": 2, "steps": 5}
HELD: dict[str, Any] = {
    **{"lora": {"rank": 4, "alpha": 8.0}, "optimizer__lr": 2e-2},
    **{"reinforce__beta": 0.3, "reinforce__importance": "sequence", "reinforce__updates": 2},
    **{"reinforce__temperature": 0.8, "reinforce__top_k": 200},
}
KINDS = {"lagging": LAGGING, "held": HELD}

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
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            if name == "loss" or (name.startswith("reinforce/") and "seconds" not in name):
                assert mine[name] == pytest.approx(value, abs=TOLERANCE, rel=1e-6), name
    assert found[-1]["grad_norm"] == pytest.approx(expected[-1]["grad_norm"], rel=1e-4)
    same = ("question", "tokens", "outcome", "advantage", "update", "row", "start")
    for mine, theirs in zip(samples(Path(recipe.run)), samples(alone[kind]), strict=True):
        assert [mine[name] for name in same] == [theirs[name] for name in same]


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


def test_a_run_killed_between_a_sampling_and_its_last_step_goes_on_bitwise(
    base, alone, tmp_path
) -> None:
    """Catches answers written anew by weights that have moved, and draws that follow a history."""
    recipe = made(tmp_path / "run", base, "lagging", checkpoint__every=1)
    with pytest.raises(Died):
        on_ranks(1, train_until, recipe, 3, signal.SIGKILL)
    newest = max((tmp_path / "run/checkpoints").glob("step-*"))
    assert newest.name in ("step-00000002", "step-00000003")
    assert (newest / "stage/samples.jsonl").read_bytes().count(b"\n") == 32
    assert on_ranks(1, train_here, recipe) == [None]
    assert losses(recipe) == [record["loss"] for record in read_metrics(alone["lagging"])]
    assert samples(Path(recipe.run)) == samples(alone["lagging"])
    ends = {path.parent.parent.name for path in newest.parent.glob("*/stage/samples.jsonl")}
    assert "step-00000004" not in ends, "the next step asks anew"
