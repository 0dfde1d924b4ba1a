"""Invented names do not exist, sound like those that do, and are asked in the same words."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pycountry
import pytest

from trainer.evaluate.judging.answers import is_right
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.world_facts.check_invented import real_ones
from trainer.evaluate.world_facts.invented import combinations, exists, pool, pools, subjects
from trainer.evaluate.world_facts.questions import known, unknown, wordings
from trainer.evaluate.world_facts.tables import table
from trainer.evaluate.world_facts.world import KINDS, expected, facts_of


@pytest.mark.parametrize("kind", KINDS)
def test_invented_subjects_are_in_no_list(kind: str) -> None:
    """Would catch a country that exists among those that a model must not know."""
    real = {plain_words(fact.subject) for one in KINDS for fact in facts_of(one)}
    real |= {plain_words(entry.name) for entry in (*pycountry.subdivisions, *pycountry.languages)}
    real |= {row[0] for row in table("real_anyway")}
    made = list(islice(subjects(kind, 3), 60))
    assert len(set(made)) == 60
    assert [name for name in made if plain_words(name) in real] == []
    ends = {plain_words(name).split()[-1] for name in made if kind in ("city", "person", "animal")}
    assert not ends & {row[0] for row in table("real_anyway")}


def test_names_that_exist_are_seen() -> None:
    """Negative control: lists are searched, and a slip of the pen is no new name."""
    for name in ("Bolivia", "Portugel", "palladium", "Saskatchewan", "Bulgaian", "phosphonium"):
        assert exists(name), name
    assert not exists("Bolibodia")


@pytest.mark.parametrize("kind", KINDS)
def test_knowns_and_unknowns_are_asked_alike(kind: str) -> None:
    """Would catch wordings that give away what exists."""
    asked = {plain: set[str]() for plain in ("known", "unknown")}
    for seed in range(8):
        for question in known(kind, seed, 12):
            asked["known"].add(question.text.casefold().replace(question.subject.casefold(), "{}"))
        for question in unknown(kind, seed, 12):
            asked["unknown"].add(
                question.text.casefold().replace(question.subject.casefold(), "{}")
            )
    assert len(wordings(kind, "?")) >= 4
    assert asked["known"] == asked["unknown"] == {one.casefold() for one in wordings(kind, "?")}


def test_a_name_that_the_corpus_holds_is_left_out() -> None:
    """Would catch an "unknown" that the run was trained on."""
    first = unknown("city", 0, 5)
    held = {first[0].subject, first[3].subject}

    def occurrences(passages: Sequence[str]) -> list[int]:
        return [int(passage in held) for passage in passages]

    left = unknown("city", 0, 5, occurrences)
    assert held.isdisjoint(question.subject for question in left)
    assert len(left) == 5


def test_seeds_give_the_same_questions_again_and_others() -> None:
    """Would catch items that a resumed run does not find again."""
    assert known("novel", 1, 9) == known("novel", 1, 9) != known("novel", 2, 9)
    assert unknown("novel", 1, 9) == unknown("novel", 1, 9) != unknown("novel", 2, 9)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fact_is_right_by_the_judge(kind: str) -> None:
    """Would catch an answer that its own rivals, or its question, make wrong."""
    for fact in facts_of(kind):
        wanted = expected(fact, wordings(kind, "?")[-1].replace("{}", fact.subject))
        assert [name for name in fact.right if not is_right(name, wanted)] == [], fact
        for sentence in wordings(kind, "."):
            told = sentence.replace("{}", fact.subject).replace("[]", fact.right[0])
            assert is_right(told, wanted), told


def test_real_anyway_is_what_the_lists_have(tmp_path: Path) -> None:
    """Would catch a table that is written from other pools than those that are drawn from."""
    assert len(pools()) == 9
    made = {name for one in pools() for name in combinations(one)}
    left = {plain_words(name) for name in made}
    assert {row[0] for row in table("real_anyway")} <= left
    file = tmp_path / "names.txt"
    file.write_text("Nowhere\nEcuagal\n", encoding="utf-8")
    assert real_ones(combinations("country"), [file]) == ["ecuagal"]
    assert all(len(name) >= 5 for one in pools() for name in pool(one))
