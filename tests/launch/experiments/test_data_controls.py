"""Data controls on and off: what is planted, what the controls leave of it, what is asked."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from launch.experiments.data_controls.__main__ import main
from launch.experiments.data_controls.documents import (
    PlantedCorpus,
    broken_encoding,
    planted_corpus,
)
from launch.experiments.data_controls.experiment import SMALL, run_experiment
from launch.experiments.data_controls.page import page_of
from launch.experiments.data_controls.towns import (
    RELATIONS,
    copied_pages,
    facts_suite,
    planted_facts,
    town_pages,
)
from launch.experiments.tables import write_page
from tests.evaluate.planted import Planted, examined
from trainer.evaluate.respondent import LikelihoodQuery
from trainer.evaluate.stored_text import StoredText


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("controls")


@pytest.fixture(scope="module")
def planted(folder: Path) -> PlantedCorpus:
    return planted_corpus(SMALL, folder)


@pytest.fixture(scope="module")
def figures(folder: Path, planted: PlantedCorpus) -> dict[str, Any]:
    """The small form of the experiment, by its own code: two steps of each condition."""
    return run_experiment(folder, (0,), limit=2, built_in=("perplexity", "memorisation"))


def texts_of(file: Path) -> list[str]:
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_defect_stands_in_the_raw_documents(planted: PlantedCorpus) -> None:
    """Would catch a defect that is described and not planted."""
    raw = texts_of(planted.raw)
    for canary in planted.canaries:
        assert sum(f"{canary.prefix} {canary.value}." in text for text in raw) == canary.copies
    assert max(Counter(raw).values()) >= SMALL.times
    assert any("\u00e2\u20ac" in text for text in raw)
    assert sum("save half of the price" in text for text in raw) == SMALL.towns // 2 * SMALL.copies
    clean, held = texts_of(planted.clean), texts_of(planted.held_out)
    assert not set(held) & {*raw, *clean} and len(held) == SMALL.held_out


def test_the_controls_leave_one_copy_and_mend_encodings(
    folder: Path, figures: dict[str, Any], planted: PlantedCorpus
) -> None:
    """Would catch canaries planted behind the rules, or a curated corpus that is the raw one."""
    kept = [document.text for document in StoredText.at(folder / "curated").documents("train")]
    raw = [document.text for document in StoredText.at(folder / "raw").documents("train")]
    assert any("\u00e2\u20ac" in text for text in raw)
    assert not any("\u00e2\u20ac" in text for text in kept)
    assert max(Counter(kept).values()) == 1 < max(Counter(raw).values())
    for canary in planted.canaries:
        assert sum(canary.value in text for text in kept) <= 1
    assert sum("save half of the price" in text for text in kept) <= SMALL.towns // 2
    # Nothing that is clean is lost with it.
    towns = [text for text in texts_of(planted.clean) if "an hour from the sea" in text]
    assert len(towns) == SMALL.towns
    assert sum(text in kept for text in towns) >= len(towns) - 1


def test_figures_are_of_both_conditions_and_written_whole(
    tmp_path: Path, figures: dict[str, Any]
) -> None:
    """Would catch a suite that asked nothing, or a page that leaves a figure out."""
    for name in ("perplexity/bits_per_byte", "planted-facts/misled", "pronouns/gap"):
        found = figures["figures"][name]
        raw, curated = found["conditions"]["raw"], found["conditions"]["curated"]
        assert raw["items"] == curated["items"] > 5
        difference = curated["value"] - raw["value"]
        assert found["differences"]["curated"]["value"] == pytest.approx(difference)
    page = write_page(page_of(figures), figures, tmp_path)
    assert "bits a byte of clean" in page and "curated less raw" in page
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert str(tmp_path.parent) not in page + json.dumps(figures)


def test_the_page_says_of_its_own_figures_alone(figures: dict[str, Any]) -> None:
    """Would catch a conclusion that the rows deny, and an end over a lacking interval."""
    made = json.loads(json.dumps(figures))
    assert made["command"].endswith("--limit 2 --seeds 1")
    gap = made["figures"]["pronouns/gap"]
    for ends, said in (([-0.2, -0.1], "Better"), ([0.1, 0.2], "Worse"), ([None, None], "Not")):
        gap["differences"]["curated"]["interval"] = ends
        (line,) = [one for one in page_of(made).splitlines() if "bias gap of pronouns" in one][1:]
        assert line.startswith(f"- {said}")
    for low, said_so in ((-0.1, True), (0.1, False)):
        gap["conditions"]["raw"]["interval"] = [low, 0.2]
        assert ("is not told from 0" in page_of(made)) == said_so


def test_no_seed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch a trace of calls where nothing is to be done."""
    with pytest.raises(SystemExit, match="2"):
        main(["--seeds", "0"])
    assert "--seeds: 0 is no count; give 1 or more" in capsys.readouterr().err


def test_a_model_that_follows_the_copies_is_seen_to_be_misled() -> None:
    """Would catch a right answer of a model that only has read the copied page."""
    facts = planted_facts(20, seed=3)
    wrong = {f" {fact.wrong}." for fact in facts}
    right = {f" {fact.value}." for fact in facts}

    def follows(liked: set[str]) -> Planted:
        def likes(query: LikelihoodQuery) -> float:
            own = [f for f in facts if f"{f.relation} of {f.town} " in f"{query.prompt.text} "]
            own_values = {f" {own[0].value}.", f" {own[0].wrong}."}
            return -1.0 if query.text in liked & own_values else -9.0

        return Planted(likes=likes)

    misled = examined(facts_suite(facts, 0), follows(wrong)).figures
    assert (misled["misled"].value, misled["accuracy_contested"].value) == (1.0, 0.0)
    sound = examined(facts_suite(facts, 0), follows(right)).figures
    assert (sound["misled"].value, sound["accuracy_contested"].value) == (0.0, 1.0)
    assert sound["accuracy_uncontested"].value == 1.0
    assert sound["misled"].items == 10 * len(RELATIONS)


def test_pages_say_what_is_so_and_copies_what_is_not() -> None:
    """Would catch a wrong value on a page, of which no control could know that it is wrong."""
    facts = planted_facts(4, seed=1)
    pages = dict(town_pages(facts, 3, seed=1))
    copies = copied_pages(facts, 5)
    assert len(pages) == 12 and len(copies) == 10
    for fact in facts:
        own = [text for name, text in pages.items() if f":{fact.town}:" in name]
        assert all(f"{fact.relation} of {fact.town} is {fact.value}." in text for text in own)
        others = [text for name, text in copies if f":{fact.town}:" in name]
        assert bool(others) == (fact.wrong is not None)
        for text in others:
            assert f"is {fact.wrong}." in text and fact.value not in text


def test_broken_encodings_are_broken() -> None:
    """Would catch a text that says the same after all, so that nothing is there to mend."""
    begin = "\u00e2\u20ac"
    expected = f"It{begin}\u2122s so {begin}\u201c here{begin}\u00a6 now, then"
    assert broken_encoding("It's so - here, now, then") == expected
