"""Demographic balance: how often a corpus mentions each group, for the data card."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

from trainer.corpus.rules.counterfactual import Counterfactual
from trainer.corpus.rules.rule import RuleDescription
from trainer.corpus.rules.vocabulary import listed

DOCUMENTS = "documents"

_WORD = re.compile(r"\w+")


def count_groups(text: str) -> Counter[str]:
    """The number of mentions of each group in a text, by `axis/group`.

    A group that is mentioned also has 1 under `axis/group/documents`, so that the sum over texts
    counts documents. Words are counted, not people: "he" in a proverb counts. Ambiguous words count
    only before a word for people ("black people", "older women").
    """
    groups = _words()
    words = _WORD.findall(text.lower())
    counts = Counter([groups[word] for word in words if word in groups])
    if not _openers().isdisjoint(words):
        for match in _phrases().finditer(text):
            counts[_adjectives()[match[1].lower()]] += 1
    counts.update([f"{group}/{DOCUMENTS}" for group in counts])
    return counts


def balance_report(total: Mapping[str, int], documents: int) -> list[dict[str, Any]]:
    """A row for each group, by axis, commonest first, from the sum of count_groups over all texts.

    Each has axis, group, mentions, share (of the axis's mentions), ratio (to the axis's commonest
    group), documents, and document_share (of the `documents` in all).
    """
    rows = []
    groups = {name: total.get(name, 0) for name in all_groups()}
    for axis in dict.fromkeys(name.partition("/")[0] for name in groups):
        ranked = sorted(
            ((count, name) for name, count in groups.items() if name.startswith(f"{axis}/")),
            key=lambda entry: (-entry[0], entry[1]),
        )
        mentions, most = sum(count for count, _ in ranked), ranked[0][0]
        for count, name in ranked:
            within = total.get(f"{name}/{DOCUMENTS}", 0)
            rows.append(
                {
                    "axis": axis,
                    "group": name.partition("/")[2],
                    "mentions": count,
                    "share": count / mentions if mentions else 0.0,
                    "ratio": count / most if most else 0.0,
                    "documents": within,
                    "document_share": within / documents if documents else 0.0,
                }
            )
    return rows


def all_groups() -> list[str]:
    """Every `axis/group`, in the order of the lists."""
    return list(dict.fromkeys([*_words().values(), *_adjectives().values()]))


@cache
def _words() -> dict[str, str]:
    return _grouped("groups")


@cache
def _adjectives() -> dict[str, str]:
    return _grouped("group_phrases")


@cache
def _openers() -> frozenset[str]:
    """The first words of all phrases: a text without any of them has no phrase."""
    return frozenset(word.partition("-")[0] for word in _adjectives())


@cache
def _phrases() -> re.Pattern[str]:
    adjectives, people = "|".join(_adjectives()), "|".join(listed("people"))
    # A lookahead, because the next word may be counted, or start a phrase, itself.
    return re.compile(rf"\b({adjectives})(?=\s+(?:{people})\b)", re.IGNORECASE)


def _grouped(name: str) -> dict[str, str]:
    """The `axis/group` of each word in the list `name`, whose lines are "axis group word ..."."""
    found: dict[str, str] = {}
    for line in listed(name):
        axis, group, *words = line.split()
        found |= dict.fromkeys(words, f"{axis}/{group}")
    return found


DESCRIPTION = RuleDescription(
    rules=lambda section: [Counterfactual(section)] if section.counterfactual > 0 else [],
    behind_duplicates=True,
    summary="mentions by gender, religion, region, age in the report; `counterfactual` adds"
    " documents with gendered terms swapped",
    not_applied="demographic balance was not measured",
    limits="Balance counts mentions of words, not persons, and knows the terms of its lists alone.",
)
