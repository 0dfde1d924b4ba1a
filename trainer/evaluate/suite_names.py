"""Whether there are the suites and figures that a recipe names: asked before any model is built."""

import logging
import math
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from trainer.checkpoint import latest_checkpoint
from trainer.errors import RecipeError
from trainer.evaluate.gates import require_figure
from trainer.evaluate.harness.names import check_tasks
from trainer.evaluate.respondent import Respondent
from trainer.evaluate.suites import MODULES, load_suite
from trainer.evaluate.suites.suite import SuiteContext
from trainer.recipe import Recipe
from trainer.recipe.evaluate import LOSS
from trainer.recipe.reading import close_name

_log = logging.getLogger(__name__)


def require_suites(recipe: Recipe) -> None:
    """Raise RecipeError for a name in evaluate.suites that no suite and no task has.

    Call it on the first rank.
    """
    try:
        check_tasks(recipe.evaluate.suites, tasks_folder(recipe), MODULES)
    except RecipeError as error:
        line = str(error).replace("--tasks-path", "evaluate.tasks_path")
        raise RecipeError(f"evaluate.suites: {line}") from None


def require_names(recipe: Recipe, tasks: bool) -> None:
    """Raise RecipeError for suites, gates or a best checkpoint that no run could measure.

    `tasks`: whether lm-eval's 14,000 files may be read. Without, a task's name is left to the start
    of the run, unless it may be a built-in suite's, mistyped, or lm-eval is not installed. So are
    figures that only a corpus brings, and those of tasks.
    """
    others = [name for name in recipe.evaluate.suites if name not in MODULES]
    mistyped = any(close_name(name, MODULES) for name in others)
    asked = tasks and (others or recipe.evaluate.tasks_path is not None)
    if asked or (others and (mistyped or find_spec("lm_eval") is None)):
        require_suites(recipe)
    for suite, figure, source in named_figures(recipe):
        if suite in MODULES:
            _require_declared(suite, figure, source)
    _require_judged_step(recipe)


def _require_judged_step(recipe: Recipe) -> None:
    """Raise RecipeError where no step has both the loss that chooses the best and gates' figures.

    A run that has begun with such a recipe goes on, and says so.
    """
    every, section = recipe.evaluate.every, recipe.evaluate
    if recipe.checkpoint.best != LOSS or not section.gates:
        return
    together = math.lcm(every, section.suites_every)
    if recipe.steps % every == 0 or 0 < together <= recipe.steps:
        return
    line = (
        f"checkpoint.best: of {recipe.steps} steps none has both {LOSS} (evaluate.every={every})"
        f" and the gates' figures (evaluate.suites_every={section.suites_every}, and the last"
        " step); let one be a multiple of the other"
    )
    if latest_checkpoint(Path(recipe.run)) is None:
        raise RecipeError(line)
    _log.warning("%s", line)


def named_figures(recipe: Recipe) -> list[tuple[str, str, str]]:
    """(suite, figure, where it stands) of each figure of suites that the recipe names."""
    gates, best = recipe.evaluate.parsed_gates(), recipe.checkpoint.best
    named = [(gate.suite, gate.figure, f"evaluate.gates: {gate.text!r}") for gate in gates]
    if best is not None and best != LOSS:
        _, suite, figure = best.split("/", 2)
        named.append((suite, figure, f"checkpoint.best: {best!r}"))
    return named


def require_direction(better: str | None, source: str) -> None:
    """Raise RecipeError where a figure, named at `source`, cannot choose the best checkpoint."""
    if better is None and source.startswith("checkpoint.best"):
        raise RecipeError(f"{source}: neither more nor less of it is better; name another figure")


def tasks_folder(recipe: Recipe) -> Path | None:
    """The folder of lm-eval tasks that the recipe names."""
    named = recipe.evaluate.tasks_path
    return None if named is None else Path(named)


def _require_declared(name: str, figure: str, source: str) -> None:
    suite = load_suite(name)
    if any(fnmatchcase(figure, pattern) for pattern in suite.figures_by_text):
        return
    # What a suite gives does not depend on who is asked.
    declared = suite.figures(SuiteContext(cast(Respondent, None)))
    require_figure(name, figure, {name: declared}, source)
    require_direction(declared[figure].better, source)
