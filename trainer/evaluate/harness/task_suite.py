"""A task, group or tag of lm-eval as a suite: lm-eval asks and scores, the rest is as in all."""

from trainer.data.tokenizer import Tokenizer
from trainer.evaluate.harness.names import harness_version
from trainer.evaluate.harness.questions import TaskQuestions, TaskSettings
from trainer.evaluate.suites.suite import Suite
from trainer.recipe.model import ModelSection


def task_suite(
    name: str, tokenizer: Tokenizer, model: ModelSection, settings: TaskSettings | None = None
) -> Suite:
    """The task, group or tag `name` as a suite; `check_tasks` has seen the name.

    Its items are loaded when they are asked for, which raises DataError where their data cannot be
    had; the context's `limit` is one for each task, as lm-eval's. Figures are named METRIC, or
    METRIC,FILTER where a task has several filters; those of a group's members TASK/METRIC.
    """
    settings = settings or TaskSettings()
    asked = TaskQuestions(name, tokenizer, model, settings)
    return Suite(
        name,
        measures=f"lm-eval's {name}: see its own documentation.",
        leaves_out="What lm-eval's task leaves out.",
        source=f"lm-eval {harness_version()}",
        rules=3,
        items=asked.items,
        judge=asked.judge,
        figures=lambda context: {},
        found_figures=asked.kinds,
        options={
            "lm-eval": harness_version(),
            "shots": settings.shots,
            "chat": settings.chat,
            "system": settings.system,
        },
    )
