"""Names that sound like real ones and do not exist: recombined from them, and checked.

Two names are cut behind a vowel and joined crosswise: Ecuador and Portugal give "Ecuagal". What
comes out is thrown away where any list at hand has it, where it is one letter from a real name
(that would be a slip of the pen), and where `real_anyway.tsv` has it: recombinations that do exist
after all, found in lists that are too large to ship (`check_invented.py`).
"""

import random
import re
from collections.abc import Iterator
from functools import cache

from trainer.evaluate.judging.plain_words import plain_words, unaccented
from trainer.evaluate.world_facts.packages import package
from trainer.evaluate.world_facts.tables import names, table
from trainer.evaluate.world_facts.world import KINDS, facts_of, law_called

VOWELS = "aeiouy"
_CUT = re.compile(rf"(?<=[{VOWELS}])(?=[^{VOWELS}\W][{VOWELS}])")
SHORTEST, LONGEST = 6, 13
"""Letters of a recombined name."""

_POOLS = {
    "capital": "country",
    "currency": "country",
    "city": "city",
    "region": "region",
    "symbol": "element",
    "number": "element",
    "formula": "element",
    "code": "language",
    "novel": "surname",
    "law": "discoverer",
    "treaty": "treaty",
    "animal": "animal",
    "person": "surname",
}
"""The names that the unknown subjects of a kind are recombined from."""


def pools() -> list[str]:
    """The names of the pools."""
    return sorted(set(_POOLS.values()))


@cache
def pool(name: str) -> tuple[str, ...]:
    """Real names of one word, of one kind, of five letters at least, without accents."""
    subjects = {
        "country": [fact.subject for fact in facts_of("capital")],
        "city": [
            *(city for city, _ in table("cities")),
            *(names(capital)[0] for _, capital in table("capitals")),
        ],
        "region": [fact.subject for fact in facts_of("region")],
        "element": [fact.subject for fact in facts_of("symbol")],
        "language": [fact.subject for fact in facts_of("code")],
        "surname": [
            *(person.split()[-1] for person, _, _ in table("people")),
            *(names(author)[0].split()[-1] for _, author in table("novels")),
        ],
        "discoverer": [person for person, _, _ in table("laws")],
        "treaty": [
            *(town for town, _ in table("treaties")),
            *(city for city, _ in table("cities")),
        ],
        "animal": [animal for animal, _ in table("animals")],
    }[name]
    plain = [unaccented(subject) for subject in subjects]
    return tuple(dict.fromkeys(one for one in plain if len(one) >= 5 and one.isalpha()))


def cuts(name: str) -> list[tuple[str, str]]:
    """A name in two parts, of three letters at least: Bolivia is Boli-via."""
    ends = [cut.start() for cut in _CUT.finditer(name.casefold())]
    return [(name[:at], name[at:]) for at in ends if at >= 3 and len(name) - at >= 3]


def recombined(left: str, right: str) -> str | None:
    """The beginning of one real name joined to another's end; None where it is no new name."""
    name = left + right
    return name if SHORTEST <= len(name) <= LONGEST else None


def combinations(name: str) -> Iterator[str]:
    """All recombinations of a pool, those that exist too."""
    for left, _ in _parts(name):
        for _, right in _parts(name):
            if made := recombined(left, right):
                yield made


@cache
def _parts(name: str) -> tuple[tuple[str, str], ...]:
    """The names of a pool, cut wherever they can be."""
    return tuple(cut for one in pool(name) for cut in cuts(one))


def subjects(kind: str, seed: int) -> Iterator[str]:
    """Things of a kind that do not exist, each once, in an order that follows from the seed."""
    draws = random.Random(f"{seed}/{kind}/unknown")
    seen: set[str] = set()
    for _ in range(100_000):
        subject = _subject(kind, draws)
        if subject is not None and subject not in seen:
            seen.add(subject)
            yield subject


def exists(name: str) -> bool:
    """Whether a list at hand has the name, or one that is a letter away from it."""
    return not _neighbours(plain_words(name)).isdisjoint(_all_neighbours())


def _name(pool_name: str, draws: random.Random) -> str | None:
    parts = _parts(pool_name)
    made = recombined(draws.choice(parts)[0], draws.choice(parts)[1])
    return None if made is None or exists(made) else made


def _subject(kind: str, draws: random.Random) -> str | None:
    """One drawn thing that does not exist; None where the draw gave something that may."""
    name = _name(_POOLS[kind], draws)
    if name is None:
        return None
    if kind == "formula":
        salt = draws.choice([compound.split()[1] for compound, _ in table("compounds")])
        return f"{name} {salt}"
    if kind == "law":
        return law_called(name, draws.choice(["law", "theorem", "principle", "law"]))
    person, calling, _ = draws.choice(table("people"))
    given = person.split()[0]
    if kind == "person":
        return f"{calling} {given} {name}"
    if kind == "novel":
        place = _name("city", draws)
        frame = draws.choice(table("frames"))[1]
        title = frame.format(place=place, given=given, surname=name)
        return None if place is None else title
    return name


def _neighbours(plain: str) -> set[str]:
    """A name, and what is left of it without any one of its letters."""
    return {plain, *(plain[:at] + plain[at + 1 :] for at in range(len(plain)))}


@cache
def _all_neighbours() -> frozenset[str]:
    return frozenset(near for name in listed() for near in _neighbours(name))


@cache
def listed() -> frozenset[str]:
    """The plain words of every name in the lists at hand, the tables here included."""
    found = [row[0] for name in ("real_anyway", "more_names") for row in table(name)]
    for country in package("pycountry").countries:
        found += [
            country.name,
            getattr(country, "common_name", ""),
            getattr(country, "official_name", ""),
        ]
    found += [entry.name for entry in package("pycountry").subdivisions]
    found += [entry.name for entry in package("pycountry").languages]
    found += [entry.name for entry in package("pycountry").currencies]
    for kind in KINDS:
        for fact in facts_of(kind):
            found += [fact.subject, *fact.right]
    found += [
        cell for name in ("laws", "people", "countries") for row in table(name) for cell in row
    ]
    whole = {plain_words(name) for cell in found for name in names(cell)}
    return frozenset(whole | {word for name in whole for word in name.split()})
