"""What a gate of `lyceum evaluate` may compare with: a run's base over the same items."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.evaluate.planted import Planted
from trainer.errors import RecipeError
from trainer.evaluate.examination import PreparedSuite, SuiteResult, prepare
from trainer.evaluate.gate_bases import require_same_items
from trainer.evaluate.respondent import LikelihoodQuery, Prompt
from trainer.evaluate.run_suites import BASE, EVALUATIONS, FIGURES, examined_settings
from trainer.evaluate.suites.suite import Item, Suite, SuiteContext
from trainer.parallel.agreement import Ranks
from trainer.recipe.gates import parse_gate

GATE = parse_gate("asks/right within 10%", "test")
ASKS = Suite(
    *("asks", "", "", "", 3),
    items=lambda context: [Item("0", (LikelihoodQuery(Prompt("a"), "b"),), {})],
    judge=lambda item, answers: {},
    figures=lambda context: {},
)


def prepared(suite: Suite, text: str | None = None, **context: Any) -> PreparedSuite:
    own: Any = text and SimpleNamespace(fingerprint=text)
    return prepare(suite, SuiteContext(Planted(), own=own or None, **context), Ranks())


def refusal(run: Path, base: PreparedSuite, here: PreparedSuite) -> str:
    """Why a gate cannot compare what is prepared `here` with a base stored of `base`."""
    folder = run / EVALUATIONS / BASE
    folder.mkdir(parents=True, exist_ok=True)
    one = {"settings": examined_settings(base), "result": SuiteResult({}, 1).as_json()}
    (folder / FIGURES).write_text(json.dumps({"model": {}, "suites": {"asks": one}}))
    try:
        require_same_items([GATE], run, {"asks": here})
    except RecipeError as error:
        return str(error).replace(str(folder), "BASE")
    return ""


@pytest.mark.parametrize("text", [None, "of another name"])
def test_questions_that_no_corpus_gave_are_the_same_beside_another(
    text: str | None, tmp_path: Path
) -> None:
    """Catches a gate that is refused where the run's corpora are not at hand, as on a laptop.

    Negative control: counts of that text make other items of the same questions.
    """
    counting = replace(ASKS, counts_in_corpora=True)
    assert refusal(tmp_path, prepared(ASKS, "the run's"), prepared(ASKS, text)) == ""
    found = refusal(tmp_path, prepared(counting, "the run's"), prepared(counting, text))
    assert "BASE is of another corpus; measure this model as the run's" in found


def test_a_base_of_an_older_version_is_not_mended_by_the_runs_section(tmp_path: Path) -> None:
    """Catches advice that changes nothing: the section was never what differed.

    Negative control: of other settings it is what does.
    """
    found = refusal(tmp_path, prepared(replace(ASKS, rules=2)), prepared(ASKS))
    assert found.endswith(
        "BASE is of another version of the suite; give the --json of an evaluation of that model"
        " as --base"
    )
    limited = refusal(tmp_path, prepared(ASKS, limit=1), prepared(ASKS))
    assert "BASE is of another limit; measure this model as the run's evaluate section" in limited
