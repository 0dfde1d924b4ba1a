"""What the parts of a mixture owe each other; each rule is one line with its mend."""

import difflib
import math
import os
from collections.abc import Mapping

from trainer.errors import RecipeError
from trainer.recipe.data import CurriculumStage, DataSection

ROUNDING = 1e-3
"""How far shares may sum to something other than 1: thirds are written 0.333."""


def check_mixture(data: DataSection) -> None:
    """Raise RecipeError where the sources or the stages of a mixture contradict each other."""
    _check_names(data)
    names = data.names()
    weights = [source.weight for source in data.mixture]
    _check_sum("data.mixture", dict(zip(names, weights, strict=True)))
    if data.curriculum and not data.mixture:
        raise RecipeError("data.curriculum: weighs the sources of data.mixture, which is empty")
    before = -1
    for number, stage in enumerate(data.curriculum):
        _check_stage(f"data.curriculum.{number}", stage, names, before)
        before = stage.after_step


def _check_names(data: DataSection) -> None:
    folders: dict[str, int] = {}
    given: dict[str, int] = {}
    for number, source in enumerate(data.mixture):
        folder = os.path.normpath(source.corpus)
        if not source.corpus.strip():
            raise RecipeError(f"data.mixture.{number}.corpus: is empty; name a corpus folder")
        if folder in folders:
            raise RecipeError(
                f"data.mixture.{number}.corpus: {source.corpus} already is source {folders[folder]}"
                "; give it once, with the sum of the weights"
            )
        folders[folder] = number
        if source.name is None:
            continue
        if not source.name.strip():
            raise RecipeError(f"data.mixture.{number}.name: is empty; leave it out or name it")
        if source.name in given:
            raise RecipeError(
                f"data.mixture.{number}.name: {source.name} already names source "
                f"{given[source.name]}; give it another"
            )
        given[source.name] = number


def _check_sum(key: str, weights: Mapping[str, float]) -> None:
    """Weights are ratios, except that several below 1 are meant as shares."""
    total = math.fsum(weights.values())
    if len(weights) < 2 or max(weights.values()) >= 1 or abs(total - 1) <= ROUNDING:
        return
    listed = " + ".join(f"{weight:g}" for weight in weights.values())
    raise RecipeError(
        f"{key}: the weights {listed} are shares, but sum to {total:.6g}; make them sum to 1, or "
        "give ratios of 1 and more"
    )


def _check_stage(key: str, stage: CurriculumStage, names: tuple[str, ...], before: int) -> None:
    if stage.after_step <= before:
        raise RecipeError(
            f"{key}.after_step: {stage.after_step} does not come after {before}; put the stages "
            "in ascending order"
        )
    for name in stage.weights:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            mend = f"did you mean {close[0]}?" if close else f"its sources are {', '.join(names)}"
            raise RecipeError(f"{key}.weights: data.mixture has no source {name}; {mend}")
    missing = [name for name in names if name not in stage.weights]
    if missing:
        raise RecipeError(
            f"{key}.weights: {', '.join(missing)} has no weight; give it one, or 0 to leave it out"
        )
    if not any(stage.weights.values()):
        raise RecipeError(f"{key}.weights: all are 0; give some source a weight above 0")
    _check_sum(f"{key}.weights", stage.weights)
