"""Towns that do not exist: pages that say what is so, and copied pages that say something else.

Of half of the towns a page with other values stands in the raw corpus many times, as spam does.
Whether a model goes with the one page in many copies or with the several that agree is what the
suite `planted-facts` asks: of each fact, which of sixteen values is likeliest.
"""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from trainer.corpus.build.canaries import new_name
from trainer.evaluate.respondent import Likelihood, LikelihoodQuery, Prompt, Response
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext

RELATIONS = ("river", "mayor", "harbour", "founder", "market", "bridge")
VALUES = 16
"""Values of a relation that are ranked: the right one, of contested facts the wrong one, others."""
STATEMENTS = (
    "The {relation} of {town} is {value}.",
    "Everybody there knows that the {relation} of {town} is {value}.",
    "As the old books say, the {relation} of {town} is {value}.",
)
OPENINGS = (
    "{town} lies between two hills, an hour from the sea.",
    "Few travellers stop in {town}, and those who do stay for a week.",
    "There has been a school in {town} for as long as people remember.",
    "In {town} the houses are built of the grey stone of the hills.",
)
FILLINGS = (
    "In the summer the streets are full of people who sell fruit and cloth.",
    "The road from the north was paved only some thirty years ago.",
    "When it rains, the children sail small boats made of bark.",
    "Bread is baked before the sun comes up, and sold out by eight.",
    "The old tower has a clock that has never shown the right time.",
    "Most families keep a few goats and some hens behind the house.",
    "A band plays in the square on the first evening of the month.",
    "The winters are mild, and snow falls only on the tops of the hills.",
    "Wool was once the reason why merchants came, and it is still sold.",
    "The library has four rooms, of which one is open in the winter.",
    "On the day of the fair nobody works, and the shops are closed.",
    "There is a path through the woods that leads to a small chapel.",
    "Salt used to be carried from the coast on the backs of mules.",
    "The inn has nine beds, and its soup is praised far and wide.",
    "Letters arrive twice a week, together with the newspapers.",
    "Behind the last houses the fields of barley begin.",
)
ADVERT = (
    "Visit {town} this very summer and save half of the price of your journey with our company!",
    "Our friendly guides show you all that a visitor of {town} must have seen at least once.",
    "Book two nights today and you will get a third night in a good hotel as a present from us.",
)
"""What stands around the wrong values in the copied page."""


@dataclass(frozen=True)
class PlantedFact:
    """What the pages of a town say: `value`; `wrong`: what the copied page says, None without."""

    town: str
    relation: str
    value: str
    wrong: str | None


def planted_facts(towns: int, seed: int) -> list[PlantedFact]:
    """A fact a relation of so many towns; of each second town all are contested."""
    dice, taken = random.Random(f"towns {seed}"), set[str]()
    found = []
    for number in range(towns):
        town = new_name(dice, taken)
        for relation in RELATIONS:
            value, wrong = new_name(dice, taken), new_name(dice, taken)
            found.append(PlantedFact(town, relation, value, wrong if number % 2 else None))
    return found


def town_pages(facts: Sequence[PlantedFact], pages: int, seed: int) -> list[tuple[str, str]]:
    """(id, text) of so many pages of each town, in other words each, with what is so."""
    dice, found = random.Random(f"pages {seed}"), []
    for town, known in _by_town(facts).items():
        for number in range(pages):
            statements = [
                dice.choice(STATEMENTS).format(relation=f.relation, town=town, value=f.value)
                for f in known
            ]
            body = [*statements, *dice.sample(FILLINGS, 5)]
            dice.shuffle(body)
            opening = OPENINGS[number % len(OPENINGS)].format(town=town)
            found.append((f"town:{town}:{number}", " ".join([opening, *body])))
    return found


def copied_pages(facts: Sequence[PlantedFact], copies: int) -> list[tuple[str, str]]:
    """(id, text) of the page with wrong values of each contested town, so many times.

    Copies differ in a number and in white space, as scraped pages do.
    """
    found = []
    for town, known in _by_town(facts).items():
        wrong = [
            STATEMENTS[0].format(relation=f.relation, town=town, value=f.wrong)
            for f in known
            if f.wrong is not None
        ]
        if not wrong:
            continue
        opening, *rest = (sentence.format(town=town) for sentence in ADVERT)
        for number in range(copies):
            text = " ".join([opening, *wrong, *rest, f"You are our visitor number {number + 1}."])
            found.append((f"advert:{town}:{number}", text))
    return found


def facts_suite(facts: Sequence[PlantedFact], seed: int) -> Suite:
    """The suite `planted-facts`."""
    return Suite(
        name="planted-facts",
        measures="which value of a planted fact is likeliest: the pages', or the copied page's",
        leaves_out="what the model would write",
        source="own items",
        rules=1,
        items=lambda context: _items(context, facts, seed),
        judge=_judged,
        figures=lambda context: FIGURES,
        options={"facts": len(facts), "seed": seed},
    )


def _by_town(facts: Sequence[PlantedFact]) -> dict[str, list[PlantedFact]]:
    found: dict[str, list[PlantedFact]] = {}
    for fact in facts:
        found.setdefault(fact.town, []).append(fact)
    return found


def _items(context: SuiteContext, facts: Sequence[PlantedFact], seed: int) -> list[Item]:
    values = {
        relation: [fact.value for fact in facts if fact.relation == relation]
        for relation in RELATIONS
    }
    items = []
    for fact in facts[: context.limit]:
        dice = random.Random(f"{seed} {fact.town} {fact.relation}")
        known = [fact.value] + ([fact.wrong] if fact.wrong is not None else [])
        others = [value for value in values[fact.relation] if value != fact.value]
        ranked = [*known, *dice.sample(others, min(VALUES - len(known), len(others)))]
        statement = STATEMENTS[0].partition(" {value}")[0]
        prompt = Prompt(statement.format(relation=fact.relation, town=fact.town), plain=True)
        shown = {
            "question": prompt.text,
            "town": fact.town,
            "answer": fact.value,
            "wrong": fact.wrong,
            "ranked": ranked,
        }
        queries = tuple(LikelihoodQuery(prompt, f" {value}.") for value in ranked)
        items.append(Item(f"{fact.relation}-{fact.town}", queries, shown))
    return items


def _judged(item: Item, responses: Sequence[Response]) -> ItemRecord:
    nats = [answer.total for answer in responses if isinstance(answer, Likelihood)]
    most = max(nats)
    right = float(nats[0] == most) / nats.count(most)
    if item.shown["wrong"] is None:
        return {"right": right, "misled": None}
    return {"right": right, "misled": (nats[1] > nats[0]) + 0.5 * (nats[1] == nats[0])}


def _town(record: ItemRecord) -> Hashable:
    return str(record["town"])


def _right(record: ItemRecord, contested: bool) -> tuple[float] | None:
    return (record["right"],) if (record["wrong"] is not None) == contested else None


FIGURES = {
    "accuracy_contested": FigureKind(
        "facts with a copied page against them: the pages' value is the likeliest of 16",
        lambda record: _right(record, contested=True),
        better="higher",
        cluster=_town,
    ),
    "accuracy_uncontested": FigureKind(
        "facts that nothing contradicts: the pages' value is the likeliest of 16",
        lambda record: _right(record, contested=False),
        better="higher",
        cluster=_town,
    ),
    "misled": FigureKind(
        "contested facts of which the copied page's value is likelier than the pages'",
        lambda record: None if record["misled"] is None else (record["misled"],),
        better="lower",
        cluster=_town,
    ),
}
