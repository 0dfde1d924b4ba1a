"""The demo is the first thing that a person sees: its story must run, and its figures be true."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import recipe_of, write_text
from trainer.demo import REPEATED_STEPS, demo_recipe, repeating_recipe
from trainer.evaluate.trigram import Trigram, trigrams_of_sequences
from trainer.recipe import Recipe, learning_changes

STORY = """
import sys
from pathlib import Path
import trainer.demo
from trainer.recipe import Recipe

folder, recipe = Path(sys.argv[1]), Recipe.from_yaml(Path(sys.argv[2]).read_text())
trainer.demo.demo_recipe = lambda folder: recipe
trainer.demo.run_demo(folder)
print(trainer.demo.compare_with_trigram(recipe, Path(recipe.corpus.path)))
"""


def tell(tmp_path: Path) -> str:
    keys = {"checkpoint__every": 3, "checkpoint__keep": 0, "evaluate__every": 8}
    recipe = recipe_of(tmp_path / "run", tmp_path, zero__stage=1, **keys)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    command = [sys.executable, "-W", "ignore", "-c", STORY, tmp_path / "run"]
    told = subprocess.run(
        [*command, tmp_path / "recipe.yaml"], capture_output=True, text=True, timeout=240
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_text(folder)
    return folder


@pytest.fixture(scope="module")
def story(folder: Path) -> str:
    return tell(folder)


def test_the_story_is_told_to_its_end(story: str) -> None:
    """Catches a chapter that no longer fits the parts it is made of."""
    for words in (
        "before training",
        "pre-training",
        "after training",
        "trigram",
        "lyceum generate",
    ):
        assert words in story
    difference = re.search(r"differ by (\S+) at most", story)
    # Invariant 4: the first 5 losses at another layout within 1e-5.
    assert difference and float(difference[1]) < 1e-5


def test_the_trigram_reads_what_the_model_read(story: str, folder: Path) -> None:
    """Catches a baseline fitted on more, or on less, than the model consumed."""
    from trainer.data.stream import stream_arguments
    from trainer.data.trace import trace

    recipe = Recipe.from_yaml((folder / "run" / "recipe.yaml").read_text())
    arguments = stream_arguments(recipe, [folder / "shards"])
    read = sum(
        entry.length
        for step in range(1, recipe.steps + 1)
        for entry in trace(arguments, recipe.batch.sequences, step)
    )
    assert f"tokens_read={read}," in story


def test_told_again_it_ends_the_same(story: str, folder: Path) -> None:
    """Catches a demo that can be run only once, or that trains on beyond its end."""
    scores = re.findall(r"Scores\(.*\)", story)
    assert re.findall(r"Scores\(.*\)", tell(folder)) == scores


def test_the_shipped_recipe_can_be_repeated_at_another_layout(tmp_path: Path) -> None:
    """Catches a demo recipe that its own last chapter would refuse."""
    recipe = demo_recipe(tmp_path)
    again = repeating_recipe(recipe)
    assert learning_changes(recipe, again) == []
    recipe.validate_world(2, "cpu")
    again.validate_world(2, "cpu")
    assert (recipe.steps - REPEATED_STEPS) % recipe.checkpoint.every == 0
    assert recipe.steps % recipe.evaluate.every == 0


def test_a_trigram_beats_guessing_here() -> None:
    """Negative control of the demo's claim: the baseline is no straw man."""
    sequences = [[0, *np.random.default_rng(n).integers(1, 5, 50).cumsum() % 7] for n in range(50)]
    keys = trigrams_of_sequences(sequences, 7)
    assert Trigram.fit(keys[:2000], 7).nats_per_token(keys[2000:]) < 0.85 * float(np.log(7))
