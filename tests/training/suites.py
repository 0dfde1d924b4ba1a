"""Runs that measure the tiny suite, for the tests of the loop."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.training import tiny_suite
from tests.training.runs import recipe_of, train_here
from trainer.evaluate import stopping
from trainer.evaluate.respondent import Response
from trainer.evaluate.run_suites import RunSuites
from trainer.evaluate.suites import MODULES
from trainer.evaluate.suites.suite import Item, ItemRecord
from trainer.observe import read_metrics
from trainer.recipe import Recipe

Ended = tuple[str, str] | None
"""The error that ended a run and its line, if one did."""


def measured_recipe(run: Path, corpus: Path, **keys: Any) -> Recipe:
    """The tiny run of four steps with the tiny suite after every second of them."""
    given = {"evaluate__suites": ["tiny"], "evaluate__suites_every": 2, "steps": 4}
    return recipe_of(run, corpus, **{**given, **keys})


def train_measured(*recipes: Recipe, force: bool = False) -> list[Ended]:
    """As `train_here`, one after the other, on a rank that knows the tiny suite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODULES, "tiny", tiny_suite.__name__)
        return [train_here(recipe, force) for recipe in recipes]


def examined_folders(*recipes: Recipe, force: bool = False) -> list[list[str]]:
    """The examinations, by the names of their folders, for which each run asks its model."""
    asked: list[list[str]] = []
    measure = RunSuites.measure

    def noted(self: RunSuites, folder: Path, *rest: Any) -> Any:
        asked[-1].append(folder.name)
        return measure(self, folder, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunSuites, "measure", noted)
        for recipe in recipes:
            asked.append([])
            train_measured(recipe, force=force)
    return asked


def train_signalled(recipe: Recipe, number: int, items: int) -> list[Ended]:
    """Train, and send this rank a signal when it has judged so many items."""
    judged = 0
    judge = tiny_suite._judge

    def counted(item: Item, responses: Sequence[Response]) -> ItemRecord:
        nonlocal judged
        judged += 1
        if judged == items:
            os.kill(os.getpid(), number)
        return judge(item, responses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_suite, "_judge", counted)
        patch.setattr(stopping, "ANSWERS_BETWEEN", 1)
        return train_measured(recipe)


def figures(run: Path, name: str = "nats") -> dict[int, float]:
    """A figure of the tiny suite by step, from metrics.jsonl."""
    key = f"eval/tiny/{name}"
    return {record["step"]: record[key] for record in read_metrics(run) if key in record}
