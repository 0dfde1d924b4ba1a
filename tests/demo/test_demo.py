"""The demo is the first thing that a person sees: its story must run, and its figures be true."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch.local import find_recipe
from tests.demo.test_questions import many_functions
from tests.training.runs import recipe_of, write_text
from trainer.demo.examination import shown_questions
from trainer.demo.questions import QuestionFiles
from trainer.demo.recipes import REPEATED_STEPS, demo_recipes
from trainer.demo.telling import STAGES
from trainer.demo.trigram import Trigram, trigrams_of_sequences
from trainer.recipe import Recipe, learning_changes, load_recipe

STORY = """
import sys
from pathlib import Path
from rich.console import Console
from trainer.demo import asking, examination
from trainer.demo.pretraining import compare_with_trigram
from trainer.demo.recipes import Recipes, repeating_recipe
from trainer.demo.second_act import tell_refusals
from trainer.demo.story import conclude, run_first_act
from tests.demo.refusing import small_refusals
from trainer.recipe import Recipe

asking.LONGEST_ANSWER = examination.LONGEST_ANSWER = 12
folder = Path(sys.argv[1])
recipe, sft, preference = (Recipe.from_yaml(Path(path).read_text()) for path in sys.argv[2:])
questions = folder / "run-questions"
recipes = Recipes(recipe, repeating_recipe(recipe), sft, preference, questions, 200)
run_first_act(Console(), recipes)
print(compare_with_trigram(recipe))
act = small_refusals(folder, Path(preference.run))
tell_refusals(Console(), act)
conclude(Console(), recipes, act.recipe)
"""


def small_recipes(folder: Path) -> list[Recipe]:
    """The toy's stages with a tiny model, and few steps."""
    keys = {
        **{"sequence_length": 160, "batch__sequences": 4, "zero__stage": 1},
        **{"checkpoint__every": 3, "checkpoint__keep": 0, "corpus__packages": ["flock"]},
        "model__layers": 1,
    }
    recipe = recipe_of(folder / "run", folder, **keys, evaluate__every=8)
    later = {"device": "cpu", "model": recipe.model, "sequence_length": 160, "steps": 3}
    shipped = demo_recipes(folder / "run")
    small = []
    for stage in (shipped.fine_tuning, shipped.preference):
        changed = stage.model_dump(mode="json") | later | {"model": recipe.model.model_dump()}
        changed["batch"] |= {"sequences": 4, "micro": 2}
        changed["schedule"] = {"warmup": 1}
        changed["evaluate"] |= {"every": 3}
        small.append(Recipe.from_keys(changed))
    return [recipe, *small]


def tell(folder: Path) -> str:
    paths = []
    for recipe in small_recipes(folder):
        paths.append(folder / f"{recipe.stage}.yaml")
        paths[-1].write_text(recipe.to_yaml())
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STORY, folder, *paths],
        capture_output=True,
        text=True,
        timeout=1800,
        env={
            **os.environ,
            **{"PYTHONPATH": str(folder / "site"), "LYCEUM_CACHE": str(folder / "cache")},
            "COLUMNS": "160",
        },
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_text(folder)
    (folder / "site" / "flock").mkdir(parents=True)
    (folder / "site" / "flock" / "__init__.py").write_text(many_functions(150))
    return folder


@pytest.fixture(scope="module")
def story(folder: Path) -> str:
    return tell(folder)


def test_the_story_is_told_to_its_end(story: str) -> None:
    """Catches a chapter that no longer fits the parts it is made of."""
    for words in (
        "become a corpus",
        " read, ",
        "pre-training",
        "trigram",
        "fine-tuning on questions",
        "preferring right answers",
        "lyceum chat",
    ):
        assert words in story
    difference = re.search(r"differ by (\S+) at most", story)
    # Invariant 4: the first 5 losses at another layout within 1e-5.
    assert difference and float(difference[1]) < 1e-5


def test_the_trigram_reads_what_the_model_read(story: str, folder: Path) -> None:
    """Catches a baseline fitted on more, or on less, than the model consumed."""
    from trainer.sources import stream_arguments
    from trainer.trace import trace

    recipe = Recipe.from_yaml((folder / "run" / "recipe.yaml").read_text())
    arguments = stream_arguments(recipe, [folder / "shards"])
    read = sum(
        entry.length
        for step in range(1, recipe.steps + 1)
        for entry in trace(arguments, recipe.batch.sequences, step)
    )
    assert f"tokens_read={read}," in story


def stages_of(story: str) -> dict[str, tuple[float, float]]:
    """The story's figures of held-out names: nats a token, percent preferred."""
    rows = re.findall(r"│ (pre-trained|fine-tuned|preferring) +│ +([\d.]+) │ +([\d.]+)%", story)
    return {stage: (float(nats), float(share)) for stage, nats, share in rows}


def real_part(story: str) -> str:
    """What is told of the real model's answers, before and after, and behind it."""
    return story[story.index("before and after") :]


def test_told_again_it_ends_the_same(story: str, folder: Path) -> None:
    """Catches a demo that can be run only once, or that trains on beyond its end."""
    runs = [Path(recipe.run) / "metrics.jsonl" for recipe in small_recipes(folder)]
    before = [run.read_bytes() for run in runs]
    repeated = tell(folder)
    scores = re.findall(r"Scores\(.*\)", story)
    assert len(scores) == 1 and re.findall(r"Scores\(.*\)", repeated) == scores
    assert len(stages_of(story)) == 3 and stages_of(repeated) == stages_of(story)
    assert [run.read_bytes() for run in runs] == before
    # What the real model said, before and after.
    assert (
        repeated[repeated.index("before and after") :] == story[story.index("before and after") :]
    )


def test_the_story_shows_what_was_measured(story: str, folder: Path) -> None:
    """Catches a figure of another run, of other names, or one that nobody measured."""
    metrics = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert f"{json.loads(metrics[-1])['eval/loss']:.3f} nats a token:" in story
    stages = stages_of(story)
    # Negative control: three steps on answers make the answers likelier.
    assert stages["fine-tuned"][0] < stages["pre-trained"][0] - 0.1


def test_the_real_model_is_asked_before_and_after_it_is_tuned(story: str, folder: Path) -> None:
    """Catches a comparison of a model with itself, and answers of another question."""
    metrics = (folder / "run-refusals" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(metrics[-1])["step"] == 3
    assert f"lyceum chat {folder / 'run-refusals'}" in story
    made_of = json.loads((folder / "run-refusals" / "refusals" / "set.json").read_text())
    assert made_of["counts"]["unknowable"]
    told = real_part(story)
    for line in (folder / "asked.jsonl").read_text().splitlines():
        assert json.loads(line)["question"] in told
    assert "Still made up:" in told and "What it cost:" in told


def test_the_story_ends_with_the_pages_of_its_chains(story: str, folder: Path) -> None:
    """Catches a path to a page that was not written, or to one of another run."""
    for run in (folder / "run-preference", folder / "run-refusals"):
        page = run / "report.html"
        assert str(page) in real_part(story).splitlines()
        assert run.name in page.read_text(encoding="utf-8")


def test_every_model_is_asked_about_trained_and_held_out_names(story: str, folder: Path) -> None:
    """Catches a comparison of answers that only shows what was learnt by heart."""
    files = QuestionFiles(folder / "run-questions")
    shown = shown_questions(files)
    assert [one.held_out for one in shown] == [False, True]
    for one in shown:
        where = files.questions(one.held_out)
        assert one.question in where.read_text(encoding="utf-8")
        told = story[story.index(one.question) :].splitlines()
        assert "held out" in told[0] if one.held_out else "was asked" in told[0]
        assert [line.split("  ")[1] for line in told[1:5]] == ["the documentation", *STAGES]


def test_the_shipped_recipe_can_be_repeated_at_another_layout(tmp_path: Path) -> None:
    """Catches a demo recipe that its own chapter on layouts would refuse."""
    recipes = demo_recipes(tmp_path)
    recipe = recipes.pretraining
    assert learning_changes(recipe, recipes.repetition) == []
    assert (recipe.steps - REPEATED_STEPS) % recipe.checkpoint.every == 0
    assert recipe.steps % recipe.evaluate.every == 0


def test_each_stage_goes_on_from_the_one_before(tmp_path: Path) -> None:
    """Catches a stage that starts from other weights, another shape, or other questions."""
    recipes = demo_recipes(tmp_path / "run")
    stages = [recipes.pretraining, recipes.fine_tuning, recipes.preference]
    assert [recipe.stage for recipe in stages] == ["pretrain", "sft", "preference"]
    for recipe in (*stages, recipes.repetition):
        recipe.validate_world(2, "cpu")
    for before, recipe in itertools.pairwise(stages):
        assert recipe.init_from == before.run
        assert recipe.model == before.model
        assert recipe.sequence_length == before.sequence_length
        assert recipe.steps % recipe.evaluate.every == 0
    files = QuestionFiles(recipes.questions)
    sources = [recipe.data.mixture[0].corpus for recipe in stages[1:]]
    assert sources == [str(files.questions(False)), str(files.pairs(False))]
    # One stage shares out the batch, the other each matrix.
    assert [recipe.parallel.tensor for recipe in stages[1:]] == [1, 2]


def test_the_shipped_stages_have_the_shape_of_the_first() -> None:
    """Catches a recipe that runs in the demo and by its own name is refused."""
    recipes = [load_recipe(find_recipe(name)) for name in ("demo", "demo-sft", "demo-preference")]
    assert load_recipe(find_recipe("demo-refusals")).stage == "sft"
    for before, recipe in itertools.pairwise(recipes):
        assert recipe.model == before.model
        assert recipe.init_from == before.run


def test_a_trigram_beats_guessing_here() -> None:
    """Negative control of the demo's claim: the baseline is no straw man."""
    sequences = [[0, *np.random.default_rng(n).integers(1, 5, 50).cumsum() % 7] for n in range(50)]
    keys = trigrams_of_sequences(sequences, 7)
    assert Trigram.fit(keys[:2000], 7).nats_per_token(keys[2000:]) < 0.85 * float(np.log(7))
