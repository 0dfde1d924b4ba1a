"""A mixture that contradicts itself is refused in one line, before anything starts."""

from pathlib import Path

import pytest

from tests.recipe.recipes import changed
from trainer.errors import RecipeError
from trainer.recipe import Recipe, learning_changes

TWO = "data.mixture=[{corpus: c/web, weight: 3}, {corpus: c/code}]"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["data.mixture=[{corpus: a, weight: 0.5}, {corpus: b, weight: 0.3}]"],
            ["data.mixture", "0.5 + 0.3", "sum to 0.8", "make them sum to 1"],
        ),
        (
            ["data.mixture=[{corpus: a, weight: 0.9}, {corpus: b, weight: 0.3}]"],
            ["sum to 1.2", "or give ratios"],
        ),
        (["data.mixture=[{corpus: a, weight: 0}]"], ["data.mixture.0.weight", "0"]),
        (["data.mixture=[{corpus: a, weight: -2}]"], ["data.mixture.0.weight", "-2"]),
        (["data.mixture=[{corpus: a, weight: .nan}]"], ["data.mixture.0.weight", "nan"]),
        (["data.mixture=[{corpus: a, weight: .inf}]"], ["data.mixture.0.weight", "inf"]),
        (["data.mixture=[{corpus: a, epochs: 0}]"], ["data.mixture.0.epochs", "0"]),
        (["data.mixture=[{corpus: a, epochs: 1.5}]"], ["data.mixture.0.epochs", "whole number"]),
        (["data.mixture=[{corpus: ''}]"], ["data.mixture.0.corpus", "empty"]),
        (
            ["data.mixture=[{corpus: c/a}, {corpus: b}, {corpus: ./c/a/}]"],
            ["data.mixture.2.corpus", "./c/a/", "source 0", "sum of the weights"],
        ),
        (
            ["data.mixture=[{corpus: a, name: x}, {corpus: b, name: x}]"],
            ["data.mixture.1.name", "x", "source 0"],
        ),
        (["data.mixture=[{corpus: a, name: ''}]"], ["data.mixture.0.name", "empty"]),
        (
            ["data.curriculum=[{after_step: 0, weights: {web: 1}}]"],
            ["data.curriculum", "data.mixture, which is empty"],
        ),
        (
            [TWO, "data.curriculum=[{after_step: 0, weights: {wbe: 1, code: 1}}]"],
            ["data.curriculum.0.weights", "no source wbe", "did you mean web?"],
        ),
        (
            [TWO, "data.curriculum=[{after_step: 0, weights: {web: 1}}]"],
            ["data.curriculum.0.weights", "code has no weight", "0 to leave it out"],
        ),
        (
            [TWO, "data.curriculum=[{after_step: 0, weights: {web: 0, code: 0}}]"],
            ["data.curriculum.0.weights", "all are 0"],
        ),
        (
            [TWO, "data.curriculum=[{after_step: 0, weights: {web: 0.5, code: 0.1}}]"],
            ["data.curriculum.0.weights", "sum to 0.6"],
        ),
        (
            [TWO, "data.curriculum=[{after_step: 0, weights: {web: -1, code: 2}}]"],
            ["data.curriculum.0.weights.web", "-1"],
        ),
        (
            [TWO, "data.curriculum=[{after_step: 0, weights: {web: .nan, code: 2}}]"],
            ["data.curriculum.0.weights.web", "nan"],
        ),
        (
            [TWO, "data.curriculum=[{after_step: -1, weights: {}}]"],
            ["data.curriculum.0.after_step"],
        ),
        (
            [
                TWO,
                "data.curriculum=[{after_step: 5, weights: {web: 1, code: 1}},"
                " {after_step: 5, weights: {web: 1, code: 2}}]",
            ],
            ["data.curriculum.1.after_step", "5", "ascending"],
        ),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused_in_one_line(
    tmp_path: Path, overrides: list[str], words: list[str]
) -> None:
    """Catches a mixture that trains on other shares than its author meant."""
    with pytest.raises(RecipeError) as caught:
        changed(tmp_path, *overrides)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "mixture",
    [
        "[{corpus: a}]",
        "[{corpus: a}, {corpus: b}]",
        "[{corpus: a, weight: 0.3}]",
        "[{corpus: a, weight: 0.333}, {corpus: b, weight: 0.333}, {corpus: c, weight: 0.333}]",
        "[{corpus: a, weight: 0.3}, {corpus: b, weight: 0.7}]",
        "[{corpus: a, weight: 3}, {corpus: b, weight: 0.5}]",
        "[{corpus: a, weight: 70}, {corpus: b, weight: 40, epochs: 4}]",
    ],
)
def test_shares_and_ratios_are_accepted(tmp_path: Path, mixture: str) -> None:
    """Negative control: catches rules that refuse thirds, ratios or a single source."""
    recipe = changed(tmp_path, f"data.mixture={mixture}")
    assert len(recipe.data.names()) == len(recipe.data.mixture)


def test_sources_are_called_by_their_folders_and_never_alike(tmp_path: Path) -> None:
    """Catches two sources under one name in the metrics."""
    corpora = ["x/web", "y/web/", "z/web", "s3://b/web-2", "https://h/code?key=secret"]
    listed = ", ".join(f"{{corpus: '{corpus}'}}" for corpus in corpora)
    recipe = changed(tmp_path, f"data.mixture=[{listed}, {{corpus: w, name: web}}]")
    assert recipe.data.names() == ("web-2", "web-3", "web-4", "web-2-2", "code", "web")


def test_a_curriculum_reads_back_the_same_and_changes_what_is_learned(tmp_path: Path) -> None:
    """Catches stages that recipe.yaml loses, and a resume that changes them silently."""
    stages = "data.curriculum=[{after_step: 7, weights: {code: 0.25, web: 0.75}}]"
    recipe = changed(tmp_path, TWO, stages)
    assert recipe.data.stage_weights(8) == [(56, (0.75, 0.25))]
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    named = [key for key, _, _ in learning_changes(changed(tmp_path, TWO), recipe)]
    assert named == ["data.curriculum"]
