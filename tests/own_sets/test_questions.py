"""What a run's own model is asked: files, the bank, and the facts of corpora."""

import json
from pathlib import Path

import pytest

from tests.own_sets.asking import preferring_recipe, write_lines
from tests.training.runs import recipe_of
from trainer.errors import DataError
from trainer.own_sets.questions import content_keys, questions_of
from trainer.recipe.own_samples import FactualitySection, RefusalsSection
from trainer.sources import ensure_corpus

TOWNS = ["Orlo", "Keld", "Sorn", "Bruma", "Tavik"]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built corpus that states capitals."""
    folder = tmp_path_factory.mktemp("facts")
    lines = [{"id": town, "text": f"The capital of {town}land is {town}."} for town in TOWNS]
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ensure_corpus(recipe_of(folder / "run", folder), progress=False)[0]


def test_files_the_bank_and_facts_are_asked_together(tmp_path: Path, facts: Path) -> None:
    """Catches one of the three that is left out, and two questions that share their records."""
    own = write_lines(tmp_path / "own.jsonl", [{"question": "What is tea?", "answer": "a drink"}])
    section = FactualitySection(questions=(str(own), "bank"), corpora=(str(facts),))
    found = questions_of(section, "conversations.factuality", 0)
    assert found[0].text == "What is tea?"
    texts = {f"What is the capital of {town}land?" for town in TOWNS}
    assert texts & {one.text for one in found}  # one town's document is held out
    assert len(found) > 1000 and len({one.id for one in found}) == len(found)
    assert any(not one.answerable for one in found)


def test_two_of_one_id_are_one_line(tmp_path: Path) -> None:
    """Catches samples of one question that are taken for another's."""
    (bank, *_) = questions_of(RefusalsSection(questions=("bank",)), "", 0)
    own = write_lines(
        tmp_path / "own.jsonl", [{"id": bank.id, "question": "What is it?", "answer": "tea"}]
    )
    section = RefusalsSection(questions=("bank", str(own)))
    with pytest.raises(DataError, match="has the id") as raised:
        questions_of(section, "conversations.refusals", 0)
    assert "\n" not in str(raised.value)


def test_a_corpus_without_facts_is_one_line(tmp_path: Path) -> None:
    """Catches a corpus that is named for its facts, and of which nothing is asked."""
    (tmp_path / "text.jsonl").write_text('{"id": "a", "text": "Nothing is said here."}\n' * 2)
    folder, _ = ensure_corpus(recipe_of(tmp_path / "run", tmp_path), progress=False)
    section = FactualitySection(corpora=(str(folder),))
    with pytest.raises(DataError, match=r"factuality\.corpora: .* states no fact"):
        questions_of(section, "conversations.factuality", 0)


def test_a_key_follows_from_all_that_is_asked(tmp_path: Path, facts: Path) -> None:
    """Catches another reason, answer or corpus under which a run goes on with what it asked."""
    line = {"id": "a", "question": "Who will win?", "answer": None, "reason": "It is to come."}
    changed = [line, line | {"reason": "It is not over."}, line | {"answer": "Bo"}]
    keys = []
    for number, one in enumerate(changed):
        path = write_lines(tmp_path / f"{number}.jsonl", [one])
        asked = {"conversations__factuality__questions": [str(path)]}
        recipe = preferring_recipe(tmp_path / "run", tmp_path / "base", **asked)
        keys.append(content_keys(recipe)["factuality"])
        more = recipe.replaced({"conversations.factuality.corpora": [str(facts)]})
        keys.append(content_keys(more)["factuality"])
    assert len(set(keys)) == len(keys)
    again = write_lines(tmp_path / "renamed.jsonl", [line])
    asked = {"conversations__factuality__questions": [str(again)]}
    renamed = preferring_recipe(tmp_path / "run", tmp_path / "base", **asked)
    assert content_keys(renamed)["factuality"] == keys[0]
