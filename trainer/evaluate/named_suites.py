"""The suites that a recipe names: built-in ones, and tasks of lm-eval."""

from trainer.data.tokenizer import Tokenizer
from trainer.evaluate.harness.questions import TaskSettings
from trainer.evaluate.harness.task_suite import task_suite
from trainer.evaluate.suite_names import tasks_folder
from trainer.evaluate.suites import MODULES, load_suite
from trainer.evaluate.suites.suite import Suite
from trainer.recipe import Recipe


def suites_named(recipe: Recipe, tokenizer: Tokenizer) -> list[Suite]:
    """The suites in evaluate.suites, whose names `require_suites` has seen."""
    settings = TaskSettings(tasks_folder(recipe))
    return [
        load_suite(name) if name in MODULES else task_suite(name, tokenizer, recipe.model, settings)
        for name in recipe.evaluate.suites
    ]
