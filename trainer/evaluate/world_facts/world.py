"""The kinds of facts about the world, and the facts of each kind."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from trainer.evaluate.judging.expected import AnswerForm, ExpectedAnswer
from trainer.evaluate.judging.plain_words import unaccented
from trainer.evaluate.world_facts.packages import package
from trainer.evaluate.world_facts.tables import names, table

_WITH_ARTICLE = re.compile(
    r"^United|Republic$|^(?:Bahamas|Gambia|Maldives|Netherlands|Philippines)$"
)
_CODES_THAT_ARE_WORDS = frozenset({"ALL", "COP", "CUP", "GEL", "MAD", "PEN", "RON", "TRY"})
REGIONS_OF = ("US", "CA", "AU", "IN", "BR")
"""Countries whose states and provinces are asked for."""


@dataclass(frozen=True)
class WorldFact:
    """A fact: what is asked about, and what is right ("|"-free names, the best one first)."""

    kind: str
    subject: str
    right: tuple[str, ...]


@dataclass(frozen=True)
class FactKind:
    """A kind of fact: its name, how its answers are written, and what makes its facts."""

    name: str
    form: AnswerForm
    make: Callable[[], Iterator[tuple[str, tuple[str, ...]]]]


@cache
def facts_of(kind: str) -> tuple[WorldFact, ...]:
    """All facts of a kind, in the order of their source."""
    return tuple(WorldFact(kind, subject, right) for subject, right in KINDS[kind].make())


def expected(fact: WorldFact, question: str) -> ExpectedAnswer:
    """What is right in answer to a question about a fact, against the other answers of its kind."""
    own = set(fact.right)
    rivals = [name for name in _answers(fact.kind) if name not in own]
    return ExpectedAnswer(fact.right, tuple(rivals), KINDS[fact.kind].form, question)


@cache
def subjects_of(kind: str) -> tuple[str, ...]:
    """The names of the things of a kind by themselves: "Niels Bohr", not "scientist Niels Bohr"."""
    found = [fact.subject for fact in facts_of(kind)]
    if kind == "city":
        found += [fact.right[0] for fact in facts_of("capital")]
    if kind == "person":
        return tuple(one.partition(" ")[2] for one in found)
    if kind == "novel":  # titles of one word are given names, too: Emma, Kim
        return tuple(one for one in found if " " in one)
    return tuple(one.removeprefix("the ") for one in found)


@cache
def named_answers(kind: str) -> tuple[str, ...]:
    """The answers of a kind that are names and nothing else; none of numbers, signs, currencies.

    "As", "real" and "us" are words of any sentence, "Dublin" and "physics" are not. A family name
    alone is one of an author behind "by".
    """
    form = KINDS[kind].form
    if form not in ("name", "person") or kind == "currency":
        return ()
    found = tuple(name for name in _answers(kind) if name != "US")
    if form == "person":
        found += tuple(f"by {name.split()[-1]}" for name in found)
    return tuple(dict.fromkeys(found))


def country_name(code: str) -> str:
    """The usual English name of a country by its ISO 3166 code."""
    for known, cell in table("countries"):
        if known == code:
            return names(cell)[0]
    country = package("pycountry").countries.get(alpha_2=code)
    return str(getattr(country, "common_name", country.name)).partition(",")[0]


def _in_a_sentence(code: str) -> str:
    """The name of a country with its article: "the Netherlands"."""
    name = country_name(code)
    return f"the {name}" if _WITH_ARTICLE.search(name) else name


def _capitals() -> Iterator[tuple[str, tuple[str, ...]]]:
    for code, capital in table("capitals"):
        yield _in_a_sentence(code), names(capital)


def _currencies() -> Iterator[tuple[str, tuple[str, ...]]]:
    # The first two letters of a currency's code are those of its country: ISO 4217.
    for code, currency in table("currencies"):
        assert package("pycountry").currencies.get(alpha_3=code) is not None, code
        own = names(currency)
        yield _in_a_sentence(code[:2]), (*own, *_currency_forms(code, own))


def _cities() -> Iterator[tuple[str, tuple[str, ...]]]:
    for city, country in table("cities"):
        code, *more = names(country)
        yield city, (*_country(code), *more)


def _regions() -> Iterator[tuple[str, tuple[str, ...]]]:
    cities = {name for cell in (*table("cities"), *table("novels")) for name in names(cell[0])}
    taken = cities | {country.name for country in package("pycountry").countries}
    taken |= _in_several_countries()
    for code in REGIONS_OF:
        for region in sorted(
            package("pycountry").subdivisions.get(country_code=code), key=lambda one: one.code
        ):
            plain = region.type in {"State", "Province"} and region.parent_code is None
            if plain and region.name not in taken and region.name.isalpha():
                # India's are listed in a transliteration that nobody writes: Chhattīsgarh.
                yield unaccented(region.name) if code == "IN" else region.name, _country(code)


def _in_several_countries() -> set[str]:
    """States and provinces of one name in two countries: Punjab, Amazonas."""
    countries: dict[str, set[str]] = {}
    for region in package("pycountry").subdivisions:
        if region.type in {"State", "Province"}:
            countries.setdefault(region.name, set()).add(region.country_code)
    return {name for name, codes in countries.items() if len(codes) > 1}


def _symbols() -> Iterator[tuple[str, tuple[str, ...]]]:
    for element in _elements():
        yield element.name, (element.symbol,)


def _numbers() -> Iterator[tuple[str, tuple[str, ...]]]:
    for element in _elements():
        yield element.name, (str(element.number),)


def _formulas() -> Iterator[tuple[str, tuple[str, ...]]]:
    for compound, formula in table("compounds"):
        yield compound, names(formula)


def _codes() -> Iterator[tuple[str, tuple[str, ...]]]:
    for language in package("pycountry").languages:
        code = getattr(language, "alpha_2", None)
        if code and language.type == "L" and language.scope == "I" and language.name.isalpha():
            yield language.name, (code,)


def _novels() -> Iterator[tuple[str, tuple[str, ...]]]:
    for title, author in table("novels"):
        yield title, names(author)


def _laws() -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, kind, fields in table("laws"):
        yield law_called(name, kind), names(fields)


def _treaties() -> Iterator[tuple[str, tuple[str, ...]]]:
    for town, year in table("treaties"):
        yield town, (year,)


def _animals() -> Iterator[tuple[str, tuple[str, ...]]]:
    for animal, classes in table("animals"):
        yield animal, tuple(form for name in names(classes) for form in _forms_of_class(name))


def _people() -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, calling, country in table("people"):
        code, *more = names(country)
        yield (
            f"{calling} {name}",
            (*_country(code), *(form for one in more for form in _people_of(one))),
        )


def _currency_forms(code: str, own: tuple[str, ...]) -> tuple[str, ...]:
    """Plurals of the names of a currency, and its code, where that is no English word."""
    plurals = tuple(f"{name}s" for name in own if not name.endswith("s"))
    return (*plurals, code) if code not in _CODES_THAT_ARE_WORDS else plurals


def law_called(name: str, kind: str) -> str:
    """How a law or theorem is called after somebody."""
    return f"{name}'s {kind}" if not name.endswith("s") else f"{name}' {kind}"


def _forms_of_class(name: str) -> tuple[str, ...]:
    """The names of a class of animals: in the plural and in Latin, too."""
    latin = {
        "mammal": "Mammalia",
        "bird": "Aves",
        "reptile": "Reptilia",
        "amphibian": "Amphibia",
        "fish": "Actinopterygii",
        "insect": "Insecta",
    }
    plural = "fishes" if name == "fish" else f"{name}s"
    return (name, plural, *([latin[name]] if name in latin else []))


def _people_of(country: str) -> tuple[str, ...]:
    adjective = {"England": "English", "Scotland": "Scottish", "Bohemia": "Bohemian"}
    return country, adjective[country]


def _elements() -> Iterator[Any]:
    for element in package("periodictable").elements:
        if element.number > 0:
            yield element


def _country(code: str) -> tuple[str, ...]:
    return next(names(cell) for known, cell in table("countries") if known == code)


KINDS: Mapping[str, FactKind] = {
    kind.name: kind
    for kind in (
        FactKind("capital", "name", _capitals),
        FactKind("currency", "name", _currencies),
        FactKind("city", "name", _cities),
        FactKind("region", "name", _regions),
        FactKind("symbol", "sign", _symbols),
        FactKind("number", "number", _numbers),
        FactKind("formula", "sign", _formulas),
        FactKind("code", "sign", _codes),
        FactKind("novel", "person", _novels),
        FactKind("law", "name", _laws),
        FactKind("treaty", "year", _treaties),
        FactKind("animal", "name", _animals),
        FactKind("person", "name", _people),
    )
}
"""The kinds of facts by name."""


@cache
def _answers(kind: str) -> tuple[str, ...]:
    """What answers of a kind may be: those of its facts, and their likes."""
    found = [name for fact in facts_of(kind) for name in fact.right]
    if kind == "capital":
        found += [city for city, _ in table("cities")]
    if kind in ("city", "region", "person"):
        found += [name for _, cell in table("countries") for name in names(cell)]
        found += [country.name for country in package("pycountry").countries]
    return tuple(dict.fromkeys(found))
