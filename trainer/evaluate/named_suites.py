"""The suites that a recipe names: built-in ones, and tasks of lm-eval."""

from pathlib import Path

from trainer.data.tokenizer import Tokenizer
from trainer.errors import RecipeError
from trainer.evaluate.harness.names import check_tasks
from trainer.evaluate.harness.questions import TaskSettings
from trainer.evaluate.harness.task_suite import task_suite
from trainer.evaluate.suites import MODULES, load_suite
from trainer.evaluate.suites.suite import Suite
from trainer.recipe import Recipe


def require_suites(recipe: Recipe) -> None:
    """Raise RecipeError for a name in evaluate.suites that no suite and no task has.

    Call it on the first rank.
    """
    try:
        check_tasks(recipe.evaluate.suites, _folder(recipe), MODULES)
    except RecipeError as error:
        line = str(error).replace("--tasks-path", "evaluate.tasks_path")
        raise RecipeError(f"evaluate.suites: {line}") from None


def suites_named(recipe: Recipe, tokenizer: Tokenizer) -> list[Suite]:
    """The suites in evaluate.suites, whose names `require_suites` has seen."""
    settings = TaskSettings(_folder(recipe))
    return [
        load_suite(name) if name in MODULES else task_suite(name, tokenizer, recipe.model, settings)
        for name in recipe.evaluate.suites
    ]


def _folder(recipe: Recipe) -> Path | None:
    named = recipe.evaluate.tasks_path
    return None if named is None else Path(named)
