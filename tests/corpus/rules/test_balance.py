"""The counts behind the balance report: which words count, and how the counts add up."""

from collections import Counter

import pytest

from trainer.corpus.rules.balance import all_groups, balance_report, count_groups
from trainer.corpus.rules.vocabulary import listed

AXES = {"gender", "religion", "region", "race", "age"}


def mentions(text: str) -> dict[str, int]:
    return {name: count for name, count in count_groups(text).items() if name.count("/") == 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She met HIM. (women)", {"gender/female": 2, "gender/male": 1}),
        (
            "Muslims, Jews and a hindu",
            {"religion/muslim": 1, "religion/jewish": 1, "religion/hindu": 1},
        ),
        ("Black people and older\nwomen", {"race/black": 1, "age/elderly": 1, "gender/female": 1}),
        ("young Black men", {"race/black": 1, "gender/male": 1}),
        ("middle-aged men", {"age/middle-aged": 1, "gender/male": 1}),
        ("In Nigeria and China", {"region/african": 1, "region/east-asian": 1}),
    ],
)
def test_mentions_are_counted_by_group(text: str, expected: dict[str, int]) -> None:
    """Would catch a group that is never counted, or that depends on case or punctuation."""
    assert mentions(text) == expected


@pytest.mark.parametrize(
    "text",
    ["the black box, white noise, an old house", "theme human hero sheer", "", "item_he he2"],
)
def test_innocent_words_are_not_counted(text: str) -> None:
    """The negative control: words inside words and identifiers, colours of things."""
    assert mentions(text) == {}


def test_counts_of_parts_add_up_to_the_report() -> None:
    """Would catch documents counted as mentions, or shares and ratios of the wrong whole."""
    texts = ["he he he she", "he", "a church", "nobody"]
    total: Counter[str] = Counter()
    for text in texts:
        total.update(count_groups(text))
    rows = {(row["axis"], row["group"]): row for row in balance_report(total, len(texts))}
    male, female = rows["gender", "male"], rows["gender", "female"]
    assert (male["mentions"], male["documents"], male["document_share"]) == (4, 2, 0.5)
    assert (female["mentions"], female["share"], female["ratio"]) == (1, 0.2, 0.25)
    assert male["share"] + female["share"] + rows["gender", "other"]["share"] == pytest.approx(1.0)
    assert rows["religion", "christian"]["share"] == 1.0
    assert rows["religion", "sikh"]["mentions"] == 0


def test_an_empty_corpus_has_a_report_of_zeros() -> None:
    """Would catch a division by zero where nothing was read or nobody is mentioned."""
    rows = balance_report({}, 0)
    assert {row["axis"] for row in rows} == AXES
    assert all(row["share"] == row["ratio"] == row["document_share"] == 0.0 for row in rows)


def test_each_word_belongs_to_one_group() -> None:
    """Would catch a word listed twice, whose first group would lose it in silence."""
    words = [word for line in listed("groups") for word in line.split()[2:]]
    assert len(words) == len(set(words))
    assert all(word.isalpha() and word == word.lower() for word in words)
    assert {name.partition("/")[0] for name in all_groups()} == AXES
