"""The bias experiment in small, by its own code: what is trained on, and what the page says."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.experiments.bias import __main__ as command
from launch.experiments.bias import cure
from launch.experiments.bias.cure import gender_suite, run_cure
from launch.experiments.bias.occupations import occupations
from launch.experiments.bias.page import page_of
from launch.experiments.bias.small import documents_text, held_out_text, run_small_models
from launch.experiments.tables import write_page
from tests.evaluate.planted import Planted, examined
from trainer.evaluate.stored_text import StoredText


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bias")


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Any]:
    """Two steps of each condition, then two of a cure of the first."""
    small = run_small_models(folder, (0,), limit=2)
    base = folder / "skewed-0"
    held_out, replayed = held_out_text(folder), documents_text(folder)
    cured = run_cure(folder / "cure", held_out, (0,), cure.SMALL, base, replayed)
    return {"command": "the command", "small": small, "smollm2": cured}


def pronouns_in(folder: Path, condition: str) -> dict[str, int]:
    """How many texts about people are of him, and of her."""
    texts = [one.text for one in StoredText.at(folder / condition).documents("train")]
    texts += [one.text for one in StoredText.at(folder / condition).documents("validation")]
    people = [f" {text} " for text in texts if any(f" {j.name} " in text for j in occupations())]
    return {pronoun: sum(f" {pronoun} " in text for text in people) for pronoun in ("he", "she")}


def test_counterfactuals_reach_the_corpus(folder: Path, figures: dict[str, Any]) -> None:
    """Would catch conditions that differ by name alone: beside, each text has its other."""
    skewed, beside = (pronouns_in(folder, one) for one in ("skewed", "beside"))
    texts = 2 * len(occupations())
    assert skewed["he"] + skewed["she"] == texts
    assert beside == {"he": texts, "she": texts}


def test_a_cure_never_reads_of_what_is_held_out(folder: Path, figures: dict[str, Any]) -> None:
    """Would catch a cure examined on its own occupations, or one that sees one pronoun alone."""
    lines = (folder / "cure" / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    examples = [json.loads(line) for line in lines]
    held = [f" {job.name}" for job in occupations() if job.held_out]
    assert not [one for one in examples if any(one["prompt"].endswith(job) for job in held)]
    assert len(examples) == 30 * len(cure.SENTENCES)
    (recipe,) = (folder / "cure").glob("cured-0/recipe.yaml")
    assert "counterfactual: 1.0" in recipe.read_text(encoding="utf-8")
    asked = (folder / "cure" / "records" / "cured-0" / "pronouns.jsonl").read_text("utf-8")
    assert {json.loads(line)["occupation"] for line in asked.splitlines()} == {
        job.name for job in occupations() if job.held_out
    }


def test_what_is_replayed_is_neither_measured_nor_about_people(
    folder: Path, figures: dict[str, Any]
) -> None:
    """Would catch replayed text that is the measure's own, and texts with the planted skew."""
    lines = (folder / "cure" / "replayed.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [one["prompt"] + one["completion"] for one in map(json.loads, lines)]
    assert texts and all(len(text) <= cure.REPLAYED for text in texts)
    held_out = held_out_text(folder).read_text(encoding="utf-8")
    assert not [text for text in texts if json.dumps(text)[1:-1] in held_out]
    assert not [text for text in texts if any(f" {job.name} " in text for job in occupations())]


def test_the_page_has_both_parts(tmp_path: Path, figures: dict[str, Any]) -> None:
    """Would catch a table without its figures, or with a path of the machine that made it."""
    page = write_page(page_of(figures), figures, tmp_path)
    assert page.count("| bias gap of pronouns") == 2 and "blended less base" in page
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert str(tmp_path.parent) not in page + json.dumps(figures)


def test_an_interrupted_cure_leaves_the_page(
    tmp_path: Path, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch the page of a half that is written over the whole one."""
    before = write_page(page_of(figures), figures, tmp_path)

    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "__file__", str(tmp_path / "__main__.py"))
    monkeypatch.setattr(command, "run_small_models", lambda *given: figures["small"])
    monkeypatch.setattr(command, "smollm2_checkpoint", lambda: tmp_path)
    monkeypatch.setattr(command, "run_cure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.main(["--folder", str(tmp_path)])
    assert (tmp_path / "figures.md").read_text(encoding="utf-8") == before


def test_a_method_that_fails_is_said_to_fail(figures: dict[str, Any]) -> None:
    """Would catch a page that praises whatever the figures are."""
    made = json.loads(json.dumps(figures))
    gap = made["small"]["figures"]["pronouns/gap"]
    for (low, high), said in (
        ((0.1, 0.2), "(the method fails)"),
        ((-0.2, -0.1), "the gap falls from"),
        ((-0.1, 0.1), "is not told apart"),
    ):
        gap["differences"]["beside"] |= {"value": (low + high) / 2, "interval": [low, high]}
        (line,) = [one for one in page_of(made).splitlines() if one.startswith("- *beside*")]
        assert said in line


def test_only_pairs_about_women_and_men_are_asked() -> None:
    """Would catch a figure over all of the suite's categories under the name of one."""
    result = examined(gender_suite(), Planted())
    assert (
        result.figures["share_likelihood"].items == result.figures["share_likelihood_gender"].items
    )
    assert result.figures["share_likelihood"].items >= 90
