"""A run's suites before its first step: what a gate may name, also where tasks declare nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.planted import Planted
from tests.training.runs import recipe_of
from trainer.errors import RecipeError
from trainer.evaluate.respondent import LikelihoodQuery, Prompt
from trainer.evaluate.run_suites import (
    FIGURES,
    TRIAL_ITEMS,
    RunSuites,
    stored_results,
    stored_suites,
)
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext
from trainer.parallel.agreement import Ranks

TASKS = ("letters",) * 6 + ("numbers",) * 6
RARE = 8
"""An item that has a score which others of its task have not."""


def of_tasks(records: Sequence[ItemRecord]) -> dict[str, FigureKind]:
    """A figure for each task that has a record, and for each score in one."""
    return {
        f"{record['task']}/{score}": FigureKind("right", lambda one: (1.0,), better="higher")
        for record in records
        for score in record["scores"]
    }


GROUP = Suite(
    *("group", "", "", "", 1),
    items=lambda context: [
        # The first of all could not be made into a question.
        Item(f"{number}", (LikelihoodQuery(Prompt("a"), "b"),) * bool(number), {"task": task})
        for number, task in enumerate(TASKS)
    ],
    judge=lambda item, answers: {"scores": ["acc"] + ["rare"] * (item.id == str(RARE))},
    figures=lambda context: {},
    found_figures=of_tasks,
)


def opened(folder: Path, planted: Planted, **keys: Any) -> RunSuites:
    recipe = recipe_of(folder, folder, evaluate__suites=["group"], **keys)
    return RunSuites(recipe, [GROUP], SuiteContext(planted), Ranks())


def test_a_task_is_asked_few_items_where_a_gate_needs_its_figures(tmp_path: Path) -> None:
    """Catches a task that is asked as a whole before the run begins, or for nothing, and a figure
    that is taken for none since the first item does not bring it, or cannot be asked.
    """
    planted = Planted()
    opened(tmp_path, planted)
    assert planted.asked == []
    keys = {
        "evaluate__gates": ["group/numbers/rare > 0"],
        "checkpoint__best": "eval/group/letters/acc",
    }
    suites = opened(tmp_path, planted, **keys)
    assert len(planted.asked) == 2 * TRIAL_ITEMS
    assert suites.better == {"group/numbers/rare": "higher", "group/letters/acc": "higher"}


def test_a_figure_that_a_task_does_not_give_is_named_with_the_nearest(tmp_path: Path) -> None:
    """Catches a misspelt gate that is noticed when the run has ended."""
    with pytest.raises(RecipeError, match="gives no figure numbers/ac; did you mean numbers/acc"):
        opened(tmp_path, Planted(), evaluate__gates=["group/numbers/ac > 0"])


def test_figures_over_other_questions_are_not_taken_for_these(tmp_path: Path) -> None:
    """Catches a base measured over fewer validation sequences, or a task's data before an edit."""

    def suites_of(text: str) -> RunSuites:
        question = Item("0", (LikelihoodQuery(Prompt("a"), text),), {"task": "letters"})
        suite = replace(GROUP, items=lambda context: [question])
        recipe = recipe_of(tmp_path, tmp_path, evaluate__suites=["group"])
        return RunSuites(recipe, [suite], SuiteContext(Planted()), Ranks())

    measured, folder = suites_of("b"), tmp_path / "base"
    measured.measure(folder, ["group"], {}, lambda: False, lambda suite, done, items: None)
    assert suites_of("b").known(folder, ["group"], {}) is not None
    assert suites_of("c").known(folder, ["group"], {}) is None


@pytest.mark.parametrize(
    "content",
    [
        *("[1]", "3", '{"suites": 1}', '{"suites": {"tiny": 1}}', '{"suites": {"tiny": {}}}'),
        '{"suites": {"tiny": {"result": {"figures": {}, "items": 2}}}}',
        '{"suites": {"tiny": {"settings": {}, "result": {"figures": {"a": 1}, "items": 2}}}}',
        '{"suites": {"tiny": {"settings": {}, "result": {"figures": {}, "of": 2}}}}',
    ],
)
def test_figures_of_an_odd_shape_are_none(tmp_path: Path, content: str) -> None:
    """Catches a trace of calls, and a run that cannot go on, for a file that somebody edited.

    Negative control: a suite beside it that is what was written is read.
    """
    (tmp_path / FIGURES).write_text(content)
    assert (stored_suites(tmp_path), stored_results(tmp_path)) == ({}, {})
    whole = '"whole": {"settings": {}, "result": {"figures": {}, "items": 2}}'
    (tmp_path / FIGURES).write_text(content.replace('"tiny"', f'{whole}, "tiny"'))
    assert stored_results(tmp_path).keys() == ({"whole"} if "tiny" in content else set())
