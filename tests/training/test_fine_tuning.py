"""Fine-tuning is training: every layout learns the same, and a stopped run goes on exactly."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ranks import Died, on_ranks
from tests.training.runs import losses, recipe_of, train_here, train_until
from tests.training.sets import tuning_recipe, write_sets
from trainer.observe import read_metrics
from trainer.recipe import Recipe
from trainer.sources import corpus_folders

TOLERANCE = 1e-5
"""Nats (of a preference: loss) over 5 steps; rounding alone gives about 1e-6."""

LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (2, {"parallel__tensor": 2, "parallel__sequence": True}),
    (2, {"parallel__pipeline": 2, "parallel__virtual": 2}),
    (2, {"parallel__context": 2}),
    (2, {"zero__stage": 2}),
    (4, {"parallel__tensor": 2, "parallel__pipeline": 2, "batch__micro": 2}),
    (1, {"batch__micro": 1}),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A pre-trained run, and beside it the sets."""
    folder = tmp_path_factory.mktemp("tuning")
    assert on_ranks(1, train_here, recipe_of(folder / "base", corpus, steps=4)) == [None]
    write_sets(folder)
    return folder / "base"


def train_all(recipes: list[Recipe]) -> list[tuple[str, str] | None]:
    """On each rank: one run after the other."""
    return [train_here(recipe) for recipe in recipes]


def tuned(ranks: int, *recipes: Recipe) -> list[list[dict[str, Any]]]:
    """The metrics of each run. Several ranks meet once in the life of a process."""
    together = [list(recipes)] if ranks == 1 else [[recipe] for recipe in recipes]
    for some in together:
        assert on_ranks(ranks, train_all, some) == [[None] * len(some)] * ranks
    return [read_metrics(Path(recipe.run)) for recipe in recipes]


def largest_difference(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> float:
    """Of the losses, of the last evaluation, and of what a preference measures of its pairs."""
    names = [n for n in expected[-1] if n == "loss" or n.startswith(("eval/", "preference/"))]
    relative = ("log_probability", "reward", "kl")
    worst = 0.0
    for mine, theirs in zip(found, expected, strict=True):
        for name in names:
            # Before the first step policy and reference are one: rounding decides who is ahead.
            tied = name == "preference/reward_accuracy" and mine["step"] == 1
            if name in theirs and not tied:
                scale = max(abs(theirs[name]), 1.0) if any(r in name for r in relative) else 1.0
                worst = max(worst, abs(mine[name] - theirs[name]) / scale)
    return worst


STAGES: dict[str, dict[str, Any]] = {
    "sft": {"stage": "sft", "conversations": {"validation": 0.2, "neftune_alpha": 5.0}},
    "dpo": {"stage": "preference"},
    "kto": {"stage": "preference", "preference__loss": "kto"},
}


@pytest.fixture(scope="module")
def alone(base: Path) -> dict[str, list[dict[str, Any]]]:
    """What one process learns in each stage."""
    recipes = [
        tuning_recipe(base.with_name(name), base, base.parent, **keys)
        for name, keys in STAGES.items()
    ]
    return dict(zip(STAGES, tuned(1, *recipes), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout[0]}-{layout[1]}")
def test_stages_learn_the_same_at_every_layout(base, alone, tmp_path, layout) -> None:
    """Catches answers cut between ranks, pairs counted twice, and noise that depends on layout."""
    ranks, keys = layout
    recipes = [
        tuning_recipe(tmp_path / name, base, base.parent, **stage, **keys)
        for name, stage in STAGES.items()
    ]
    for stage, found in zip(STAGES, tuned(ranks, *recipes), strict=True):
        expected = alone[stage]
        assert largest_difference(found, expected) < TOLERANCE, stage
        counted = [(r["tokens"], r["supervised_tokens"]) for r in found]
        assert counted == [(r["tokens"], r["supervised_tokens"]) for r in expected]
        assert counted[-1][1] < counted[-1][0], "questions are not supervised"


def test_noise_changes_what_is_learned_and_not_what_is_measured(base, alone, tmp_path) -> None:
    """The negative control of the noise: without it the curve is another one."""
    recipe = tuning_recipe(tmp_path / "run", base, base.parent, "sft")
    (without,) = tuned(1, recipe)
    assert abs(without[0]["loss"] - alone["sft"][0]["loss"]) > 1e-4


FIRST_LOSSES = {"dpo": 0.693147, "ipo": 25.0, "kto": 0.5, "simpo": None, "orpo": None}
"""Before the first step policy and reference are one: ln 2, (1 / (2 x 0.1))^2, and sigmoid(0)."""


def test_preferences_are_learned(base, tmp_path) -> None:
    """Catches a sign, and a reference that is not the weights that the run starts from."""
    recipes = [
        tuning_recipe(
            *(tmp_path / loss, base, base.parent, "preference"),
            **{"preference__loss": loss, "steps": 8},
        )
        for loss in FIRST_LOSSES
    ]
    for first, found in zip(FIRST_LOSSES.values(), tuned(1, *recipes), strict=True):
        if first is not None:
            assert found[0]["loss"] == pytest.approx(first, rel=1e-4)
        assert found[-1]["loss"] < found[0]["loss"]
        margins = [record["preference/reward_margin"] for record in found]
        assert margins[-1] > margins[0]


def test_another_rotation_of_the_same_base_is_another_reference(base, tmp_path) -> None:
    """Catches stored log-probabilities of the base under the rotation and windows that it had."""
    changes: list[dict[str, Any]] = [{}, {"model__rope_theta": 50.0}, {"model__window": 3}]
    recipes = [
        tuning_recipe(*(tmp_path / str(number), base, base.parent, "preference"), steps=1, **change)
        for number, change in enumerate(changes)
    ]
    for found in tuned(1, *recipes):
        assert found[0]["loss"] == pytest.approx(FIRST_LOSSES["dpo"], rel=1e-6)


@pytest.mark.parametrize("stage", ["sft", "kto"])
def test_a_killed_run_goes_on_bitwise(base, alone, tmp_path, stage: str) -> None:
    """Catches noise, references or an order of examples that a restart changes."""
    keys = STAGES[stage] | {"checkpoint__every": 2, "steps": 5}
    recipe = tuning_recipe(tmp_path / "run", base, base.parent, **keys)
    with pytest.raises(Died):
        on_ranks(1, train_until, recipe, 3, signal.SIGKILL)
    assert on_ranks(1, train_here, recipe) == [None]
    assert losses(recipe) == [record["loss"] for record in alone[stage]]


def told(recipe: Recipe) -> tuple[str, str]:
    """The kind and the line of the error that ends the run."""
    (failure,) = on_ranks(1, train_here, recipe)
    assert failure is not None and "\n" not in failure[1]
    return failure


def test_a_batch_without_a_supervised_token_names_its_examples(base, tmp_path) -> None:
    """Catches a step that divides by nothing and learns nothing."""
    data = tmp_path / "conversations.jsonl"
    lines = [f'{{"prompt": "What is {n}?", "completion": "It is {n}."}}' for n in range(8)]
    data.write_text("\n".join(lines), encoding="utf-8")
    recipe = tuning_recipe(
        *(tmp_path / "run", base, tmp_path, "sft"),
        # One example a row, of which the answer does not fit: only cutting leaves it in.
        **{"sequence_length": 8, "conversations": {"validation": 0.0, "too_long": "cut"}},
        **{"evaluate": {"every": 0}},
    )
    kind, line = told(recipe)
    assert kind == "DataError" and "conversations.jsonl" in line


@pytest.mark.parametrize(
    ("stage", "name", "words"),
    [
        ("sft", "pairs", ["pairs.jsonl line 1"]),
        ("preference", "conversations", ["conversations.jsonl line 1"]),
        ("sft", "absent", ["absent.jsonl"]),
    ],
)
def test_a_set_of_another_kind_is_refused_by_line(base, tmp_path, stage, name, words) -> None:
    """Catches a stage that trains on what it cannot understand."""
    mixture = [{"corpus": str(base.parent / f"{name}.jsonl")}]
    recipe = tuning_recipe(tmp_path / "run", base, base.parent, stage, data__mixture=mixture)
    kind, line = told(recipe)
    assert kind == "DataError"
    for word in words:
        assert word in line


def test_nothing_held_out_is_said_before_the_first_step(base, tmp_path) -> None:
    """Catches a run that trains for hours up to an evaluation that cannot be made."""
    keys = {"conversations": {"validation": 0.0}}
    kind, line = told(tuning_recipe(tmp_path / "run", base, base.parent, "sft", **keys))
    assert kind == "DataError" and "conversations.validation" in line
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_pre_training_refuses_a_set(base, corpus, tmp_path) -> None:
    """Catches marks that are read as tokens."""
    recipe = recipe_of(
        *(tmp_path / "run", corpus),
        **{"data__mixture": [{"corpus": str(base.parent / "pairs.jsonl")}]},
    )
    kind, line = told(recipe)
    assert kind == "DataError" and "data.mixture.0.corpus" in line


def test_a_built_set_of_another_kind_is_refused(base, alone, tmp_path) -> None:
    """Catches pairs that are read as conversations, given by the folder of their shards."""
    made = tuning_recipe(base.with_name("dpo"), base, base.parent, "preference")
    made = made.model_copy(update={"tokenizer": str(_newest(base) / "tokenizer")})
    mixture = [{"corpus": str(corpus_folders(made)[0])}]
    for stage, wanted in (("pretrain", "documents"), ("sft", "conversations and documents")):
        recipe = tuning_recipe(tmp_path / stage, base, base.parent, stage, data__mixture=mixture)
        kind, line = told(recipe)
        assert kind == "DataError"
        assert f"data.mixture.0.corpus: holds pairs, and stage {stage} reads {wanted}" in line


def _newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def test_a_lost_reference_stops_a_run_that_goes_on(base, tmp_path, monkeypatch) -> None:
    """Catches trained weights that are taken for the reference."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    recipe = tuning_recipe(tmp_path / "run", base, base.parent, "preference", steps=2)
    tuned(1, recipe)
    (record,) = (tmp_path / "cache/sets").glob("*/references/*/references.json")
    record.unlink()
    longer = Recipe.from_keys({**recipe.model_dump(mode="json"), "steps": 3})
    kind, line = told(longer)
    assert kind == "DataError" and "is gone" in line
