"""The pairs of the bias suite: minimal, balanced, without duplicates, each with its reason."""

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.evaluate.respondent import LikelihoodQuery
from trainer.evaluate.suites.bias import SUITE, pairs
from trainer.evaluate.suites.bias.continuations import described_groups
from trainer.evaluate.suites.bias.forms import (
    FRAMES,
    choice_items,
    disambiguated_items,
    likelihood_items,
)
from trainer.evaluate.suites.bias.pairs import (
    CATEGORIES,
    NEUTRAL,
    PrejudicePair,
    all_pairs,
    tables_digest,
)

PAIRS = all_pairs()
KNOWN = {(pair.marked, pair.other) for pair in PAIRS}
MARKED = {pair.marked for pair in PAIRS}
GIVES_AWAY = re.compile(r"\b(?:he|she|him|his|hers?|himself|herself)\b", re.IGNORECASE)


def differing(one: str, another: str) -> tuple[list[str], list[str]]:
    """The words that are left of two sentences without what they begin and end with alike."""
    first, second = one.rstrip(".").split(), another.rstrip(".").split()
    while first and second and first[0] == second[0]:
        first, second = first[1:], second[1:]
    while first and second and first[-1] == second[-1]:
        first, second = first[:-1], second[:-1]
    return first, second


def minimal(one: str, another: str) -> bool:
    """Whether two sentences differ in one span, which is that of a known pair of terms."""
    found = differing(one, another)
    return found in [differing(*pair) for pair in KNOWN] or found[::-1] in [
        differing(*pair) for pair in KNOWN
    ]


def lopsided(pairs: Iterable[PrejudicePair]) -> list[tuple[str, str]]:
    """The pairs of terms of which one is named more often than the other."""
    count: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        count[pair.marked, pair.other] += {"marked": 1, "other": -1, None: 0}[pair.named]
    return [terms for terms, more in count.items() if more]


def test_every_category_has_enough_pairs() -> None:
    """Would catch a table that is not read to its end."""
    named = Counter(pair.category for pair in PAIRS if pair.named)
    assert set(named) == set(CATEGORIES)
    assert len(CATEGORIES) == 7 and min(named.values()) >= 90
    assert sum(named.values()) == 720
    assert sum(pair.named is None for pair in PAIRS) == len(KNOWN) == 86


def test_two_sentences_of_a_pair_are_one_term_apart() -> None:
    """Would catch a pair that also differs in an article, a pronoun or the act."""
    for item in likelihood_items(PAIRS):
        one, another = item.shown["sentence"], item.shown["contrary_sentence"]
        assert minimal(one, another), (one, another)
        assert one.endswith(f" the {item.shown['stereotyped']}.")  # so no a or an can disagree
        texts = [query.prompt.text + query.text for query in queries(item.queries)]
        assert texts[:2] == [one, another]
        assert minimal(*texts[2:]) and differing(*texts[2:]) == differing(one, another)


def test_sentences_further_apart_would_be_found() -> None:
    """Negative control of the check."""
    assert minimal("It was the old man.", "It was the young man.")
    for another in ("It is the young man.", "It was a young man.", "It was the young woman."):
        assert not minimal("It was the old man.", another)


def queries(asked: Iterable[object]) -> list[LikelihoodQuery]:
    return [query for query in asked if isinstance(query, LikelihoodQuery)]


def test_neither_act_says_who_it_was() -> None:
    """Would catch "lost her keys": grammar would decide, not prejudice."""
    for pair in PAIRS:
        own = {word for words in differing(pair.marked, pair.other) for word in words}
        for act in (pair.act, pair.opposite):
            assert not GIVES_AWAY.search(act), act
            assert own.isdisjoint(re.findall(r"\w+", act)), act
            assert act == act.strip() and act[0].islower() and act[-1] not in ".?!"
    assert GIVES_AWAY.search("lost her keys")


def test_no_pair_comes_twice() -> None:
    """Would catch a line that was copied: it would count double."""
    sentences = {
        frozenset((item.shown["sentence"], item.shown["contrary_sentence"]))
        for item in likelihood_items(PAIRS)
    }
    assert len(sentences) == len(PAIRS)
    assert len({(frozenset((p.marked, p.other)), p.act) for p in PAIRS}) == len(PAIRS)
    assert all(pair.act != pair.opposite for pair in PAIRS)
    assert len({(pair.category, pair.number) for pair in PAIRS}) == len(PAIRS)


def test_every_pair_says_which_prejudice_it_is_of() -> None:
    """Would catch a control that counts as prejudice, and a prejudice without its line."""
    for pair in PAIRS:
        assert (pair.named is None) == (pair.reason == NEUTRAL)
        assert pair.reason and "\n" not in pair.reason and len(pair.reason) < 80
        assert {pair.stereotyped, pair.contrary} == {pair.marked, pair.other}
        assert pair.named != "other" or pair.stereotyped == pair.other


def test_each_term_is_named_as_often_as_its_counterpart() -> None:
    """Would catch a share that a model gets for liking the shorter or commoner term."""
    assert lopsided(PAIRS) == []
    longer = Counter(
        len(pair.stereotyped) > len(pair.contrary)
        for pair in PAIRS
        if pair.named and len(pair.stereotyped) != len(pair.contrary)
    )
    assert longer[True] == longer[False] > 200
    one = next(pair for pair in PAIRS if pair.named == "marked")
    turned = [replace(pair, named="other") if pair is one else pair for pair in PAIRS]
    assert lopsided(turned) == [(one.marked, one.other)]  # negative control


def test_both_forms_ask_every_pair_and_questions_offer_both_orders() -> None:
    """Would catch a form that leaves out a category, or an order."""
    likelihood, choice = [*likelihood_items(PAIRS)], [*choice_items(PAIRS)]
    assert len(likelihood) == len(choice) == len(PAIRS)
    for item in choice:
        one, another = item.shown["stereotyped"], item.shown["contrary"]
        asked = queries(item.queries)
        assert [query.text for query in asked] == [f"The {one}", f"The {another}"] * 2
        first, second = asked[0].prompt.text, asked[2].prompt.text
        assert first.endswith(f", the {one} or the {another}?")
        assert second.endswith(f", the {another} or the {one}?")


def test_contexts_are_balanced_and_say_who_it_was() -> None:
    """Would catch that naming who stands first, or whom prejudice names, answers every context."""
    items = [*disambiguated_items(PAIRS)]
    count = Counter(
        (item.shown["category"], item.shown["agrees"], item.shown["stereotyped"] in MARKED)
        for item in items
    )
    assert set(count.values()) == {8} and len(count) == 7 * 2 * 2
    first = Counter(
        (item.shown["agrees"], item.shown["question"].startswith(f"{item.shown['answer']} "))
        for item in items
    )
    assert set(first.values()) == {len(items) // 4}


def test_continuations_speak_of_groups_on_both_sides() -> None:
    """Would catch a category in which nobody stands beside the marked groups."""
    count = Counter((group.category, group.side) for group in described_groups())
    assert count == {(name, side): 2 for name in CATEGORIES for side in ("marked", "other")}
    assert len({group.term for group in described_groups()}) == 28


def test_every_frame_and_every_duo_name_both_terms() -> None:
    """Would catch that a neutral sentence, shared by the pairs of a frame, decides for one side."""
    duos: Counter[tuple[str, int, str | None]] = Counter()
    frames: Counter[tuple[str, str, int, str | None]] = Counter()
    for pair in PAIRS:
        if pair.named:
            duos[pair.category, pair.duo, pair.named] += 1
            frames[pair.marked, pair.other, pair.frame % len(FRAMES), pair.named] += 1
    for category, duo, _ in duos:
        assert duos[category, duo, "marked"] == duos[category, duo, "other"]
    for *terms, _ in frames:
        assert frames[*terms, "marked"] == frames[*terms, "other"]
    assert len({pair.duo for pair in PAIRS if pair.category == "age" and pair.named}) == 10


def test_another_word_in_a_table_makes_other_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch records of older items that are gone on with as if they were these."""
    assert SUITE.options["tables"] == tables_digest()
    shutil.copytree(pairs.FOLDER, tmp_path / "tables")
    monkeypatch.setattr(pairs, "FOLDER", tmp_path / "tables")
    assert tables_digest() == SUITE.options["tables"]
    table = tmp_path / "tables" / "age.tsv"
    table.write_text(table.read_text().replace("far too slowly", "much too slowly"))
    assert tables_digest() != SUITE.options["tables"]
