"""The suites of a run that trains: made once, measured on the live model when they are due."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.checkpoint.best import Direction
from trainer.errors import DataError, RecipeError, SuiteUnavailable, TrainingError
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.examination import (
    ItemsDone,
    PreparedSuite,
    examine,
    prepare,
    settings_of,
)
from trainer.evaluate.gates import require_figure
from trainer.evaluate.intervals import Figure
from trainer.evaluate.named_suites import suites_named
from trainer.evaluate.own_text import text_of_run
from trainer.evaluate.records import NAME_ANOTHER, difference
from trainer.evaluate.stopping import Stop, StoppableRespondent
from trainer.evaluate.suite_names import named_figures, require_direction
from trainer.evaluate.suite_result import SuiteResult
from trainer.evaluate.suites.suite import Item, Suite, SuiteContext
from trainer.files import write_whole
from trainer.model.transformer import LanguageModel
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe
from trainer.sources import Sources

_log = logging.getLogger(__name__)

EVALUATIONS, BASE = "evaluations", "base"
"""The folder of a run that holds, a folder each, its examinations; the base's among them."""
FIGURES = "figures.json"
"""In the folder of an examination: what it found, written when it is whole."""
TRIAL_ITEMS = 4
"""Items of a task of which the first look is at: not every one brings every figure."""


def open_suites(
    recipe: Recipe,
    layout: Layout,
    sources: Sources,
    chunks: list[LanguageModel],
    longest: int,
) -> "RunSuites | None":
    """The recipe's suites over the run's own corpora, None where it names none; collective.

    `chunks`: the live model; `longest`: tokens of the longest text that it reads. Raises as
    RunSuites does.
    """
    section = recipe.evaluate
    if not section.suites:
        return None
    respondent = ModelRespondent(chunks, recipe, layout, sources.tokenizer, longest)
    text = text_of_run(recipe, sources)
    context = SuiteContext(
        respondent,
        seed=section.seed,
        limit=section.limit,
        own=text.own,
        held_out=text.held_out,
        trained_on=text.trained_on,
    )
    suites = suites_named(recipe, sources.tokenizer)
    return RunSuites(recipe, suites, context, Ranks(layout.hosts))


class RunSuites:
    """The recipe's suites with their items, and the model that trains as their respondent.

    Collective. Raises RecipeError for a gate, or a best checkpoint, by a figure that no suite
    gives, SuiteUnavailable for a suite that has nothing to ask here, and DataError for a task whose
    data cannot be had.
    """

    def __init__(
        self, recipe: Recipe, suites: Sequence[Suite], context: SuiteContext, ranks: Ranks
    ) -> None:
        self._context, self._ranks = context, ranks
        self._remarked: set[tuple[str, str]] = set()
        self._prepared = {suite.name: self._prepare(suite) for suite in suites}
        named = named_figures(recipe)
        asked = dict.fromkeys(suite for suite, _, _ in named)
        known = {suite: self._directions(suite) for suite in asked}
        for suite, figure, source in named:
            require_figure(suite, figure, known, source)
            require_direction(known[suite][figure], source)
        self.better: dict[str, Direction | None] = {
            f"{suite}/{figure}": known[suite][figure] for suite, figure, _ in named
        }
        """Which way each figure that the recipe names is good, by SUITE/FIGURE."""

    def _prepare(self, suite: Suite) -> PreparedSuite:
        try:
            return prepare(suite, self._context, self._ranks)
        except SuiteUnavailable as error:
            line = f"evaluate.suites: {error}; or leave {suite.name} out"
            raise SuiteUnavailable(line) from None
        except DataError as error:
            line = str(error).replace("--tasks-path", "evaluate.tasks_path")
            raise DataError(f"evaluate.suites: {line}") from None

    def _directions(self, name: str) -> dict[str, Any]:
        """Which way each figure of a suite is good."""
        prepared = self._prepared[name]
        known: dict[str, Any] = on_first_rank(self._ranks, lambda: self._declared(prepared.suite))
        if known:
            return known
        # Of a task of lm-eval the answers tell what it gives: those to the first items of each.
        trial = replace(prepared, in_corpus=None, items=self._first_items(prepared))
        figures = examine(trial, self._context.respondent, self._ranks).figures
        return {name: figure.better for name, figure in figures.items()}

    def _declared(self, suite: Suite) -> dict[str, Any]:
        return {name: kind.better for name, kind in suite.figures(self._context).items()}

    def _first_items(self, prepared: PreparedSuite) -> list[Item]:
        def first() -> list[int]:
            found: dict[Any, list[int]] = {}
            for number, item in enumerate(prepared.items):
                if item.queries:  # others could not be asked
                    found.setdefault(item.shown.get("task"), []).append(number)
            return [number for own in found.values() for number in own[:TRIAL_ITEMS]]

        return [prepared.items[index] for index in on_first_rank(self._ranks, first)]

    def known(
        self, folder: Path, names: Sequence[str], model: Mapping[str, Any] | None
    ) -> dict[str, SuiteResult] | None:
        """The results of a whole earlier examination in `folder`, where its settings were these.

        `model`: what it must have been of; None: whatever it was of.
        """
        content = on_first_rank(self._ranks, lambda: _content(folder / FIGURES))
        if content is None or (model is not None and content["model"] != model):
            return None
        return self._alike(content["suites"], names)

    def unlike(self, folder: Path, name: str) -> str:
        """In what a suite's examination in `folder` is not of what it asks here, in words.

        Empty where it is of that; to be called on the first rank alone.
        """
        return difference_from(stored_suites(folder).get(name), self._prepared[name])

    def _alike(
        self, suites: Mapping[str, Any], names: Sequence[str]
    ) -> dict[str, SuiteResult] | None:
        """The results among `suites`, as stored, where all were over the same items as here."""
        if any(difference_from(suites.get(name), self._prepared[name]) for name in names):
            return None
        return {name: SuiteResult.of_json(suites[name]["result"]) for name in names}

    def measure(
        self,
        folder: Path,
        names: Sequence[str],
        model: Mapping[str, Any],
        stop: Stop,
        advance: ItemsDone,
        found: Callable[[str, SuiteResult], None] = lambda suite, result: None,
    ) -> dict[str, SuiteResult]:
        """The results of these suites on the live model; collective.

        `folder`: of the records, with which an interrupted examination of the same `model` is gone
        on with; `found`: called with each suite's result as soon as it is there. Raises
        ExaminationStopped, and TrainingError where something cannot be written.
        """
        respondent = StoppableRespondent(self._context.respondent, stop)
        results = {}
        for name in names:
            prepared = self._prepared[name]
            try:
                results[name] = examine(prepared, respondent, self._ranks, folder, model, advance)
            except RecipeError as error:  # the records' folder: nobody named this one
                raise TrainingError(
                    str(error).replace(NAME_ANOTHER, "mend that, and the same command goes on")
                ) from None
            for remark in results[name].remarks:
                if (name, remark) not in self._remarked:  # said once, however often it is measured
                    self._remarked.add((name, remark))
                    _log.warning("%s: %s", name, remark)
            found(name, results[name])
        self._write(folder / FIGURES, results, model)
        return results

    def _write(
        self, path: Path, results: Mapping[str, SuiteResult], model: Mapping[str, Any]
    ) -> None:
        settings = self._settings(list(results))
        suites = {
            name: {"settings": settings[name], "result": result.as_json()}
            for name, result in results.items()
        }

        def write() -> None:
            try:
                text = json.dumps({"model": dict(model), "suites": suites}, indent=2)
                write_whole(path, text + "\n", durable=False)
            except OSError as error:
                raise TrainingError(f"{path} cannot be written: {error.strerror}") from None

        on_first_rank(self._ranks, write)

    def _settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: examined_settings(self._prepared[name]) for name in names}


def examined_settings(prepared: PreparedSuite) -> dict[str, Any]:
    """What a suite asks, and what decides its judgements, as JSON gives it back."""
    settings = {**settings_of(prepared), "asked": prepared.asked}
    given_back: dict[str, Any] = json.loads(json.dumps(settings))
    return given_back


def difference_from(stored: Any, prepared: PreparedSuite) -> str:
    """In what a stored examination of a suite is not of the items that are prepared.

    In words; empty where it is of them. The corpora differ only where more than the questions is
    taken from them: a suite is not another one where the same is asked beside another text.
    """
    there = stored.get("settings") if isinstance(stored, dict) else None
    here = examined_settings(prepared)
    if isinstance(there, dict) and not prepared.suite.counts_in_corpora:
        there, here = ({k: v for k, v in one.items() if k != "own"} for one in (there, here))
    return "" if here == there else difference(there, here)


def figures_of(results: Mapping[str, SuiteResult]) -> dict[str, Figure]:
    """All figures, by SUITE/FIGURE."""
    return {
        f"{suite}/{name}": figure
        for suite, result in results.items()
        for name, figure in result.figures.items()
    }


def values_of(results: Mapping[str, SuiteResult]) -> dict[str, float]:
    """The values of all figures, by SUITE/FIGURE."""
    return {name: figure.value for name, figure in figures_of(results).items()}


def stored_suites(folder: Path) -> dict[str, Any]:
    """The settings (`examined_settings`) and the result of each suite, as stored in `folder`."""
    suites: dict[str, Any] = (_content(folder / FIGURES) or {}).get("suites", {})
    return suites


def stored_results(folder: Path) -> dict[str, SuiteResult]:
    """What the examination in `folder` found, whatever its settings; {} where there is none."""
    suites = stored_suites(folder)
    return {name: SuiteResult.of_json(one["result"]) for name, one in suites.items()}


def _content(path: Path) -> dict[str, Any] | None:
    """The model and the suites of an examination; None where the file holds none, or is gone.

    What is left of a suite that is not what was written is none of it: it is measured again.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("suites"), dict):
        return None
    suites = {name: one for name, one in content["suites"].items() if _is_a_suites(one)}
    return {"model": content.get("model"), "suites": suites}


def _is_a_suites(stored: Any) -> bool:
    """Whether it is what `RunSuites` stores of a suite."""
    try:
        SuiteResult.of_json(stored["result"])
        return isinstance(stored["settings"], dict)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError):
        return False
