"""Whether an answer follows the passage that it was asked about, and admits what stands not there.

Passages of our own (`groundedness.jsonl`) tell well-known facts, some of which are altered by rule:
the true value of a kind (a city, a year, a person) is replaced by another one of its kind, chosen
from the seed, of which no word stands in the passage. So the passage's answer and the world's are
two different texts, and which of them an answer gives is unambiguous. Three kinds of question:
about an altered fact, about one that was left as it is, and about something that the passage does
not say.

Measured: of altered facts, how often the passage's value is given and how often the world's; of
unaltered ones, how often the answer is right; of what is not said, how often the model says so and
how often it answers all the same; and how often it refuses what the passage does say, without which
a model that always refuses would look well. `judging/grounded.py` says how answers are judged.

Not measured: long passages, several of them, conclusions from what they say, and whether the
explanation around a right value is right.

Source: the conflict of what a model remembers with what it reads, as in Longpre and others,
"Entity-Based Knowledge Conflicts in Question Answering", 2021, arXiv 2109.05052.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.evaluate.judging.grounded import judge_grounded
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.respondent import Prompt, Response, TextQuery, WrittenAnswer
from trainer.evaluate.suites import other_script
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext

PASSAGES_FILE = Path(__file__).with_suffix(".jsonl")
ANSWER_TOKENS = 32
STOP = ("\n",)
ITEMS = 120
"""Items where no limit is given; there are more than 200."""
PROMPT = (
    "Read the passage and answer the question briefly. Use the passage alone; if it does not hold"
    ' the answer, say "I don\'t know".\n\nPassage: {passage}\n\nQuestion: {question}'
)
VALUES = {
    "animal": ("the tiger", "the camel", "the ostrich", "the elephant", "the hippopotamus"),
    "body": ("Jupiter", "Venus", "Mars", "Saturn"),
    "city": ("Lisbon", "Osaka", "Denver", "Bergen", "Lima", "Toronto", "Krakow", "Nairobi"),
    "colour": ("blue", "purple", "orange", "pink"),
    "continent": ("Europe", "Asia", "South America"),
    "country": ("Sweden", "Mexico", "Kenya", "Portugal", "Norway", "Chile"),
    "food": ("bread", "cheese", "rice", "beans"),
    "fruit": ("a pear", "a plum", "an orange", "a coconut"),
    "gas": ("argon", "neon", "methane", "chlorine"),
    "hazard": ("a reef", "a lighthouse", "a whale"),
    "keys": ("61", "76", "97", "102"),
    "language": ("Swedish", "Polish", "Turkish", "Korean"),
    "material": ("oak", "sandstone", "ivory", "limestone"),
    "metal": ("copper", "zinc", "nickel", "cobalt", "tin"),
    "mineral": ("quartz", "granite", "chalk", "slate"),
    "month": ("January", "April", "June", "August", "October"),
    "number": ("three", "five", "six", "ten", "twelve", "fifteen"),
    "person": (
        *("Robin Marlow", "Alex Whitfield", "Kim Renner", "Sam Ashdown", "Chris Oakes"),
        *("Jo Calloway", "Robin Thackeray", "Kim Halloran"),
    ),
    "planet": ("Mars", "Jupiter", "Saturn", "Venus", "Neptune", "Uranus"),
    "plant": ("cotton", "rye", "barley", "hemp"),
    "river": ("Danube", "Volga", "Mekong", "Loire"),
    "seconds": ("45", "50", "72", "80", "90"),
    "speed": ("150,000", "450,000", "90,000", "700,000"),
    "squares": ("36", "72", "100", "144"),
    "symbol": ("Ag", "Fe", "Pb", "Sn"),
    "temperature": ("20", "40", "60", "70", "120", "150"),
    "village": ("Ardenhall", "Brookmere", "Lindow", "Castlewick"),
}
"""What altered facts say, by kind; a year is moved by one of YEARS."""
YEARS = (-34, -17, 13, 26, 41)
_SLOT = re.compile(r"\{(?P<kind>\w+):(?P<true>[^}]+)\}")

QuestionAbout = Literal["altered", "unaltered", "unsaid"]


@dataclass(frozen=True)
class GroundedQuestion:
    """A question about a passage, as the model reads them.

    `asked`: what it is about; `answers`: ways to give the passage's answer, none where it does not
    say; `world`: ways to give the true answer, where the fact is altered.
    """

    id: str
    domain: str
    asked: QuestionAbout
    passage: str
    question: str
    answers: tuple[str, ...] = ()
    world: tuple[str, ...] = ()


def grounded_questions(seed: int = 0) -> list[GroundedQuestion]:
    """All questions, those of a passage together; how facts are altered follows from `seed`."""
    lines = PASSAGES_FILE.read_text(encoding="utf-8").splitlines()
    return [one for line in lines for one in _questions_of(json.loads(line), seed)]


def _questions_of(entry: dict[str, Any], seed: int) -> Iterator[GroundedQuestion]:
    facts = [(found["kind"], found["true"]) for found in _SLOT.finditer(entry["passage"])]
    asked = [question for question, _ in (*entry["altered"], *entry["said"])]
    taken = plain_words(
        " ".join([_SLOT.sub(lambda found: found["true"], entry["passage"]), *asked])
    )
    altered: list[str] = []
    for kind, true in facts:
        altered.append(_altered(kind, true, taken, f"{seed} {entry['id']} {len(altered)}"))
        taken += f" {plain_words(altered[-1])}"
    values = iter(altered)
    passage = _SLOT.sub(lambda found: next(values), entry["passage"])

    def about(asked: QuestionAbout, number: int, question: str, **answers: Any) -> GroundedQuestion:
        name = f"{entry['id']}-{asked}-{number}"
        return GroundedQuestion(name, entry["domain"], asked, passage, question, **answers)

    for number, (question, more) in enumerate(entry["altered"]):
        (kind, true), value = facts[number], altered[number]
        world = (*_ways(kind, true), *more)
        yield about("altered", number, question, answers=_ways(kind, value), world=world)
    for number, (question, answers) in enumerate(entry["said"]):
        yield about("unaltered", number, question, answers=tuple(answers))
    for number, question in enumerate(entry["unsaid"]):
        yield about("unsaid", number, question)


def _altered(kind: str, true: str, taken: str, key: str) -> str:
    """Another value of the kind, of which no word stands in the plain words `taken`."""
    values = VALUES[kind] if kind != "year" else tuple(str(int(true) + by) for by in YEARS)
    known = set(taken.split())
    fitting = [value for value in values if not known & set(plain_words(value).split())]
    return min(fitting, key=lambda value: hashlib.sha256(f"{key} {value}".encode()).digest())


def _ways(kind: str, value: str) -> tuple[str, ...]:
    """A value, and of a person also the family name alone."""
    return (value, value.split()[-1]) if kind == "person" else (value,)


def _items(context: SuiteContext) -> list[Item]:
    found = grounded_questions(context.seed)
    return [_item(one) for one in _spread(found, context.limit or ITEMS)]


def _spread(found: Sequence[GroundedQuestion], limit: int) -> list[GroundedQuestion]:
    """`limit` questions, as many of each kind, of as few passages as have them, over the domains.

    In the order of the passages, so that what the model reads of one is read once.
    """
    mixed = {
        one.passage: hashlib.sha256(one.id.partition("-")[0].encode()).digest() for one in found
    }
    turns: dict[str, int] = {}
    order = []
    for index in sorted(range(len(found)), key=lambda index: (mixed[found[index].passage], index)):
        asked = found[index].asked
        turns[asked] = turns.get(asked, 0) + 1
        order.append((turns[asked], index))
    return [found[index] for index in sorted(index for _, index in sorted(order)[:limit])]


def _item(one: GroundedQuestion) -> Item:
    prompt = PROMPT.format(passage=one.passage, question=one.question)
    shown = {
        "domain": one.domain,
        "asked": one.asked,
        "passage": one.passage,
        "question": one.question,
        "answers": list(one.answers),
        "world": list(one.world),
    }
    query = TextQuery(Prompt(prompt), ANSWER_TOKENS, STOP)
    return Item(one.id, (query,), shown, (one.passage, one.question))


def _judge(item: Item, responses: Sequence[Response]) -> ItemRecord:
    (answer,) = responses
    assert isinstance(answer, WrittenAnswer)
    text = answer.text.strip()
    shown = item.shown
    read = f"{shown['passage']} {shown['question']}"
    did = judge_grounded(text, shown["answers"], shown["world"], read)
    return {"asked": item.shown["asked"], "answer": text, "judged": did}


def _kind(
    means: str,
    asked: Sequence[QuestionAbout],
    judged: Sequence[str],
    better: Literal["higher", "lower"],
) -> FigureKind:
    def row(record: ItemRecord) -> Sequence[float] | None:
        return (float(record["judged"] in judged),) if record["asked"] in asked else None

    return FigureKind(means, row, better=better)


FIGURES = {
    "follows_passage": _kind(
        "altered facts of which the passage's value is given", ["altered"], ["passage"], "higher"
    ),
    "follows_memory": _kind(
        "altered facts of which the world's value is given", ["altered"], ["memory"], "lower"
    ),
    "accuracy_unaltered": _kind(
        "facts left as they are that are given", ["unaltered"], ["passage"], "higher"
    ),
    "refuses_unsaid": _kind(
        "questions that the passage does not answer, of which it is said",
        ["unsaid"],
        ["refused"],
        "higher",
    ),
    "answers_unsaid": _kind(
        "questions that the passage does not answer, of which nothing is admitted",
        ["unsaid"],
        ["passage", "memory", "other"],
        "lower",
    ),
    "refuses_said": _kind(
        "questions that the passage does answer, refused",
        ["altered", "unaltered"],
        ["refused"],
        "lower",
    ),
    **other_script.FIGURES,
}


SUITE = Suite(
    name="groundedness",
    measures="whether answers follow a passage with altered facts, and refuse what it does not say",
    leaves_out="long passages, several of them, and conclusions from what they say",
    source="own passages; Longpre and others, 2021 (arXiv 2109.05052), for conflicts of knowledge",
    rules=16,
    items=_items,
    judge=_judge,
    figures=lambda context: FIGURES,
    options={"tokens": ANSWER_TOKENS, "items": ITEMS},
    remarks=other_script.remarks,
)
