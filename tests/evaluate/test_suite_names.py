"""Suites and figures that a recipe names: what no run could measure is refused before it starts."""

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from tests.evaluate.planted import Planted
from tests.recipe.recipes import changed
from trainer.cli import main
from trainer.corpus.build.canaries import Canary
from trainer.errors import RecipeError
from trainer.evaluate import suite_names
from trainer.evaluate.suite_names import require_names
from trainer.evaluate.suites import MODULES, load_suite
from trainer.evaluate.suites.suite import SuiteContext


@pytest.fixture
def without_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where lm-eval is not installed, whose 14,000 files take seconds to read."""
    for module in ("suite_names", "harness.names"):
        monkeypatch.setattr(f"trainer.evaluate.{module}.find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["evaluate.suites=[bais]"], ["evaluate.suites: no suite 'bais': did you mean bias?"]),
        (
            ["evaluate.suites=[bias]", "evaluate.gates=['bias/gab < 0.1']"],
            ["evaluate.gates: 'bias/gab < 0.1'", "gives no figure gab; did you mean gap?"],
        ),
        (
            ["evaluate.suites=[perplexity]", "checkpoint.best=eval/perplexity/bits_per_bite"],
            ["checkpoint.best: 'eval/perplexity/bits", "did you mean bits_per_byte?"],
        ),
        (
            ["evaluate.suites=[perplexity]", "checkpoint.best=eval/perplexity/tokens"],
            ["checkpoint.best: 'eval/perplexity/tokens': neither more nor less"],
        ),
    ],
)
def test_a_recipe_is_refused_for_what_it_could_not_measure(
    overrides: list[str],
    says: list[str],
    capsys: pytest.CaptureFixture[str],
    without_harness: None,
) -> None:
    """Would catch a typing error that --show lets pass, and that all ranks are started for."""
    for more in (["--show"], ["--nproc", "2"]):
        assert main(["train", "tiny", *more, *overrides]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.count("\n") == 1
        for part in says:
            assert part in shown.err


def test_what_only_a_corpus_or_a_task_tells_is_left_to_the_start(tmp_path: Path) -> None:
    """Negative control: figures of a source, of planted copies, and of a task of lm-eval."""
    recipe = changed(
        tmp_path,
        "evaluate.suites=[perplexity, memorisation, bias, hellaswag]",
        "evaluate.gates=['perplexity/bits_per_byte/wiki < 2', 'memorisation/exposure_1_copy < 9',"
        " 'hellaswag/acc,none > 0.3', 'bias/gap < 0.1']",
        "checkpoint.best=eval/memorisation/exposure_max",
    )
    harness = {name for name in sys.modules if name.partition(".")[0] == "lm_eval"}
    require_names(recipe, tasks=False)
    assert harness == {name for name in sys.modules if name.partition(".")[0] == "lm_eval"}


def test_a_missing_harness_is_said_before_the_start(tmp_path: Path, without_harness: None) -> None:
    """Would catch ranks that are started for tasks which nothing installed can ask."""
    with pytest.raises(RecipeError, match=r"no suite 'hellaswag': .* pip install"):
        require_names(changed(tmp_path, "evaluate.suites=[hellaswag]"), tasks=False)


def test_a_folder_of_tasks_that_is_none_is_refused_where_a_recipe_is_shown(
    tmp_path: Path,
) -> None:
    """Would catch a mistyped folder beside built-in suites, which nobody opens before the start."""
    recipe = changed(tmp_path, "evaluate.suites=[bias]", "evaluate.tasks_path=nowhere")
    with pytest.raises(RecipeError, match=r"evaluate\.tasks_path nowhere: no such folder"):
        require_names(recipe, tasks=True)


def test_a_best_that_no_step_could_be_is_refused_for_a_new_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a run without a best in silence, and checkpoints of such a run not read."""
    overrides = [
        *("evaluate.suites=[bias]", "evaluate.gates=['bias/gap < 0.1']"),
        *("checkpoint.best=eval/loss", "evaluate.every=7", "evaluate.suites_every=3"),
    ]
    recipe = changed(tmp_path, *overrides)  # as it is read from a checkpoint
    told = "of 20 steps none has both eval/loss (evaluate.every=7) and the gates' figures"
    with pytest.raises(RecipeError) as refused:
        require_names(recipe, tasks=False)
    assert told in str(refused.value) and "suites_every=3" in str(refused.value)
    monkeypatch.setattr(suite_names, "latest_checkpoint", lambda run: run)
    require_names(recipe, tasks=False)
    assert told in caplog.text
    monkeypatch.undo()
    # Every 7 steps and every 3 meet at the 21st; after every 2 the last step has both.
    for other in ("steps=21", "evaluate.every=2"):
        require_names(changed(tmp_path, *overrides, other), tasks=False)


class _Text:
    """A corpus of two sources in which canaries were planted, 1 and 16 times."""

    names = ("wiki", "books/old")

    def canaries(self) -> list[tuple[str, Canary]]:
        """One of each number of copies."""
        return [("wiki", Canary(f"c{n}", "code", "code", "x", n)) for n in (1, 16)]


@pytest.mark.parametrize("name", MODULES)
def test_figures_that_a_text_brings_are_declared_to_come_with_it(name: str, tmp_path: Path) -> None:
    """Would catch a figure that is refused since a suite gives it for some corpora alone."""
    text = cast(Any, _Text())
    context = SuiteContext(Planted(lambda query: ""), own=text, held_out=text)
    for figure in load_suite(name).figures(context):
        gate = f"{name}/{figure} < 1"
        overrides = [f"evaluate.suites=[{name}]", f"evaluate.gates=[{gate!r}]"]
        require_names(changed(tmp_path, *overrides), tasks=False)
