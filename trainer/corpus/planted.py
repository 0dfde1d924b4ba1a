"""Documents whose fate is known: bad ones among clean ones, and clean ones that look bad."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice, repeat

FOREIGN = {
    "German": (
        "Der alte Fischer ging jeden Morgen vor Sonnenaufgang an den Hafen hinunter.",
        "Seine Frau hatte ihm wie immer ein Brot und eine Flasche Wasser eingepackt.",
        "Das Wetter war in diesem Herbst so schlecht, dass kaum ein Boot auslaufen konnte.",
        "Die Kinder des Dorfes warteten am Ufer und zählten die Wellen.",
        "Niemand wusste genau, wann die großen Schiffe wieder zurückkommen würden.",
        "Am Abend saßen alle zusammen in der warmen Küche und erzählten Geschichten.",
    ),
    "French": (
        "Le vieux pêcheur descendait chaque matin au port avant le lever du soleil.",
        "Sa femme lui avait préparé comme toujours du pain et une bouteille d'eau.",
        "Le temps était si mauvais cet automne que presque aucun bateau ne pouvait sortir.",
        "Les enfants du village attendaient sur la rive et comptaient les vagues.",
        "Personne ne savait exactement quand les grands navires allaient revenir.",
        "Le soir, tout le monde se retrouvait dans la cuisine pour raconter des histoires.",
    ),
    "Spanish": (
        "El viejo pescador bajaba todas las mañanas al puerto antes de que saliera el sol.",
        "Su mujer le había preparado como siempre un pan y una botella de agua.",
        "El tiempo era tan malo aquel otoño que casi ningún barco podía salir a la mar.",
        "Los niños del pueblo esperaban en la orilla y contaban las olas.",
        "Nadie sabía con certeza cuándo volverían los grandes barcos.",
        "Por la noche todos se sentaban en la cocina caliente y contaban historias.",
    ),
    "Italian": (
        "Il vecchio pescatore scendeva ogni mattina al porto prima del sorgere del sole.",
        "Sua moglie gli aveva preparato come sempre del pane e una bottiglia d'acqua.",
        "Quell'autunno il tempo era così brutto che quasi nessuna barca poteva uscire.",
        "I bambini del paese aspettavano sulla riva e contavano le onde.",
        "Nessuno sapeva con certezza quando le grandi navi sarebbero tornate.",
        "La sera tutti sedevano insieme nella cucina calda e raccontavano delle storie.",
    ),
    "Dutch": (
        "De oude visser ging elke ochtend voor zonsopgang naar de haven.",
        "Zijn vrouw had zoals altijd een brood en een fles water voor hem ingepakt.",
        "Het weer was die herfst zo slecht dat bijna geen enkele boot kon uitvaren.",
        "De kinderen van het dorp wachtten op de oever en telden de golven.",
        "Niemand wist precies wanneer de grote schepen weer terug zouden komen.",
        "In de avond zat iedereen samen in de warme keuken en vertelde verhalen.",
    ),
}
ENGLISH = (
    "The old fisherman went down to the harbour every morning before the sun came up.",
    "His wife had packed a loaf of bread and a bottle of water for him, as she always did.",
    "The weather was so bad that autumn that hardly any boat could leave the bay.",
    "The children of the village waited on the shore and counted the waves.",
    "Nobody knew for certain when the great ships would be back again.",
    "In the evening they all sat together in the warm kitchen and told each other stories.",
)
REPEATED = (
    "Read more about our company and the people who work with us.\n"
    "Sign up for the newsletter that we send to all of our friends.\n",
    "This page uses cookies so that we can make your visit to it better.\n"
    "By going on you agree to the terms of use and to the privacy policy.\n",
)
MIXED_IN = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "function show(page) { return document.getElementById(page); }",
)
PERSONAL = {
    "email": "Write to {name}.{number}@mail-service.com for the whole account of it.",
    "phone": "You can reach the author at +1 (415) 555-2{number:03d} on every working day.",
    "ip address": "The machine that answered was 8.8.{number}.14 according to the protocol.",
    "card": "The order was paid with card 4539 1488 0343 6467 on the same afternoon.",
}
INNOCENT = (
    "The release was numbered 10.4.{number}, following 10.3.2 by some weeks.",
    "It was written on 2024-03-{day:02d} at 12:45:10 and revised a year later.",
    "The book has the number ISBN 978-3-16-148410-0 in every library.",
    "The checksum that failed was 4539 1488 0343 6468 in the protocol.",
    "He says that the word Schadenfreude and the phrase raison d'être have no good translation.",
    "The committee of the city of Scunthorpe met the cocktail bar's owner about the peacock.",
    "The lecture explains why the term was once used as an insult, and how its history went.",
)
PASSAGE = (
    "The lighthouse keeper of Merrowby counted forty seven ships on the evening of the great storm"
    " and wrote the name of each of them into a book bound in green leather."
)
"""What the evaluation set of the test holds; written for it, so that it stands nowhere else."""


Made = tuple[str, str | None, str]
"""Text, the rule that should act, and the kind, as of Planted."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A document and what ought to become of it.

    `rule` is the control that should act ("duplicates", "personal", "quality", ...), None for a
    document that should pass as it is; `kind` is what was planted.
    """

    id: str
    text: str
    rule: str | None
    kind: str


def plant(clean: list[str], seed: int) -> list[Planted]:
    """`clean` documents, and for each control a share of them made bad or made to look bad.

    The clean ones are English prose of 100 words or more, no two alike. The first quarter stays as
    it is and gives the originals of copies, which stand behind them.
    """
    dice = random.Random(seed)
    quarter = len(clean) // 4
    documents = [
        Planted(f"clean {number}", text, None, "clean")
        for number, text in enumerate(clean[:quarter])
    ]
    made: list[Iterator[Made]] = [
        _copies(clean[:quarter], dice),
        _foreign(quarter // 2, dice),
        _boilerplate(quarter // 2, dice),
    ]
    rest = iter(clean[quarter:])
    share = (len(clean) - quarter) // 4
    made += [
        _inserted(list(islice(rest, share)), _personal(dice), "personal", dice),
        _inserted(list(islice(rest, share)), _innocent(dice), None, dice),
        _inserted(
            list(islice(rest, share // 2)), repeat((PASSAGE, "passage")), "decontaminate", dice
        ),
        _inserted(list(islice(rest, share // 2)), _toxic(dice), "toxicity", dice),
    ]
    for number, (text, rule, kind) in enumerate(entry for part in made for entry in part):
        documents.append(Planted(f"{kind} {number}", text, rule, kind))
    return documents


def _copies(originals: list[str], dice: random.Random) -> Iterator[Made]:
    for number, text in enumerate(originals):
        words = text.split(" ")
        if number % 3 == 0:
            yield text.replace("\n", "\n  ") + "\n", "duplicates", "exact copy"
        elif number % 3 == 1:
            # One changed word changes three shingles: of 100 words, 1 leaves 94% of them in common.
            for place in dice.sample(range(len(words)), max(1, len(words) // 100)):
                words[place] = "altogether"
            yield " ".join(words), "duplicates", "near copy"
        else:
            others = originals[number - 1].split()
            for place in dice.sample(range(len(words)), len(words) // 4):
                words[place] = dice.choice(others)
            yield " ".join(words), None, "rewritten copy"


def _foreign(count: int, dice: random.Random) -> Iterator[Made]:
    for language in islice(cycle(FOREIGN), count):
        yield " ".join(dice.sample(FOREIGN[language], 5)), "language", language


def _boilerplate(count: int, dice: random.Random) -> Iterator[Made]:
    for number in range(count):
        sentences = dice.sample(ENGLISH, 5)
        if number % 3 == 0:
            text = REPEATED[number // 3 % 2] * dice.randint(5, 40)
        elif number % 3 == 1:
            text = "\n".join([*sentences, MIXED_IN[number // 3 % 2]])
        else:
            # A menu: the words of the story, one a line.
            text = "\n".join(" ".join(sentences).split())
        yield text, "quality", "boilerplate"


def _inserted(
    texts: list[str], sentences: Iterator[tuple[str, str]], rule: str | None, dice: random.Random
) -> Iterator[Made]:
    """Each text with the next sentence, and its kind, behind one of its lines."""
    for text, (inserted, kind) in zip(texts, sentences, strict=False):
        lines = text.split("\n")
        lines.insert(dice.randint(1, len(lines)), inserted)
        yield "\n".join(lines), rule, kind


def _personal(dice: random.Random) -> Iterator[tuple[str, str]]:
    for number, kind in enumerate(cycle(PERSONAL)):
        name = dice.choice(("maria", "j.smith", "o_nwosu", "li-wei"))
        yield PERSONAL[kind].format(name=name, number=number % 200 + 40), kind


def _innocent(dice: random.Random) -> Iterator[tuple[str, str]]:
    for number, pattern in enumerate(cycle(INNOCENT)):
        yield pattern.format(number=dice.randint(1, 99), day=number % 28 + 1), "looks bad"


def _toxic(dice: random.Random) -> Iterator[tuple[str, str]]:
    """Abuse aimed at the reader. Its words come from the rule's own list: what is tested is that
    they are found in a long text and set apart from talk about them, not that the list is complete.
    """
    while True:
        first, second, third = dice.sample(("idiot", "moron", "imbecile", "scumbag", "cretin"), 3)
        text = f"You {first}, you {second}, you {third}, you make me sick, you stupid {first}."
        yield text, "abuse"
