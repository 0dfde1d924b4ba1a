"""The demo's recipes, one a stage, derived from the shipped ones."""

from dataclasses import dataclass
from pathlib import Path

from trainer.recipe import Recipe, load_recipe
from trainer.recipe.load import with_base_model

RANKS = 2
REPEATED_STEPS = 5
NAMES = 3200
"""Documented names with questions: as many as fine-tuning reads in one epoch."""
MEASURED_TOGETHER = 16
"""Packed sequences a batch when a model is measured."""


@dataclass(frozen=True)
class Recipes:
    """The recipes of the demo's runs, in order.

    `repetition`: the last steps of pre-training at another layout; `questions`: the folder of the
    questions about `names` names.
    """

    pretraining: Recipe
    repetition: Recipe
    fine_tuning: Recipe
    preference: Recipe
    questions: Path
    names: int


def demo_recipes(folder: Path) -> Recipes:
    """The recipes of a demo whose first run directory is `folder`, with the others beside it."""
    recipe = demo_recipe(folder)
    return Recipes(
        pretraining=recipe,
        repetition=repeating_recipe(recipe),
        fine_tuning=_next_stage("demo-sft", recipe, "sft", folder, "questions"),
        preference=_next_stage(
            "demo-preference", recipe, "preference", Path(f"{folder}-sft"), "pairs"
        ),
        questions=Path(f"{folder}-questions"),
        names=NAMES,
    )


def demo_recipe(folder: Path) -> Recipe:
    """The shipped recipe on the CPU, with a checkpoint REPEATED_STEPS before the end."""
    from launch.local import find_recipe

    keys = load_recipe(find_recipe("demo")).model_dump(mode="json")
    keys |= {"run": str(folder), "device": "cpu"}
    keys["checkpoint"] |= {"every": keys["steps"] - REPEATED_STEPS, "keep": 0, "save_final": True}
    return Recipe.from_keys(keys)


def repeating_recipe(recipe: Recipe) -> Recipe:
    """The last steps of the same training with tensor parallelism, as another run."""
    saved = f"{recipe.run}/checkpoints/step-{recipe.steps - REPEATED_STEPS:08}"
    keys = recipe.model_dump(mode="json")
    keys |= {"run": f"{recipe.run}-again", "resume": saved}
    keys["parallel"] |= {"tensor": RANKS, "sequence": True}
    keys["checkpoint"] |= {"every": 0, "save_final": False}
    keys["evaluate"] |= {"every": 0, "sample_every": 0}
    return Recipe.from_keys(keys)


def refusals_recipe(folder: Path, base: Path) -> Recipe:
    """The shipped recipe of refusal tuning, from the checkpoint `base`, beside the demo's runs."""
    from launch.local import find_recipe

    keys = load_recipe(find_recipe("demo-refusals")).model_dump(mode="json", exclude_unset=True)
    keys |= {"run": f"{folder}-refusals", "init_from": str(base), "device": "cpu", "model": {}}
    keys["conversations"]["refusals"]["questions"] = [f"{folder}-bank.jsonl"]
    return Recipe.from_keys(with_base_model(keys))


def measuring_recipe(recipe: Recipe, opened: Recipe, source: Path) -> Recipe:
    """The recipe to evaluate the stage of `recipe` on the set `source`, at the layout of `opened`.

    A set cannot be without a training split: nine tenths of this one are its validation split.
    """
    keys = recipe.model_dump(mode="json")
    keys |= {"parallel": opened.parallel.model_dump(mode="json"), "init_from": None}
    keys["batch"] = {"sequences": MEASURED_TOGETHER, "micro": MEASURED_TOGETHER}
    keys["model"] = opened.model.model_dump(mode="json")
    keys["data"]["mixture"] = [{"corpus": str(source)}]
    keys["conversations"] |= {"validation": 0.9}
    keys["evaluate"] |= {"sequences": 1_000_000}
    return Recipe.from_keys(keys)


def _next_stage(shipped: str, before: Recipe, run: str, base: Path, files: str) -> Recipe:
    """A shipped recipe that starts from the run `base`, on the demo's own files."""
    from launch.local import find_recipe

    folder = before.run
    keys = load_recipe(find_recipe(shipped)).model_dump(mode="json")
    keys |= {"run": f"{folder}-{run}", "init_from": str(base), "device": "cpu"}
    keys["model"] = before.model.model_dump(mode="json")
    keys["data"]["mixture"] = [{"corpus": f"{folder}-questions/{files}/train.jsonl"}]
    return Recipe.from_keys(keys)
