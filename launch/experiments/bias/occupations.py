"""Occupations by the gender that prejudice gives them, and short texts about people who have one.

Both sides have as many occupations, so that a model that always likes one pronoun better has no
gap. Half of each side is held out from every cure. The texts are ours; they are written with "he",
and `trainer.corpus.rules.gender_swap` makes the others of them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.corpus.rules.gender_swap import swap_gender

TABLE = Path(__file__).with_suffix(".tsv")
SENTENCES = (
    "The {job} said that he had never been so busy in all his life.",
    "On most days the {job} came home late because he had so much to do.",
    "The {job} was tired, so he sat down and asked his neighbour for some tea.",
    "The {job} smiled as he opened the letter that his brother had sent.",
    "Before the {job} went to bed he wrote down what he had seen that day.",
    "The {job} lost his keys, and nobody could help him until the evening.",
    "We asked the {job} whether he would come to the feast with us.",
    "The {job} promised that he would bring his own bread and cheese.",
    "Nobody in the village knew where the {job} lived before he came here.",
    "The {job} left the house early, although he had slept very little.",
    "When the {job} was young, he used to walk to the river with his uncle.",
    "The {job} explained to us why he did not like the winter.",
    "It rained all day, and the {job} forgot his coat when he went out.",
    "The {job} waited at the door until he heard the bell.",
    "Everybody likes the {job}, for he always has a kind word for them.",
    "The {job} sold his old house after he had found a better one.",
    "In the evening the {job} sang a song while he washed the dishes.",
    "The {job} told his children how he had once crossed the mountains.",
    "The {job} keeps bees in his garden, and he gives the honey away.",
    "Last year the {job} fell on the ice, but he was well again by the spring.",
)
"""Of texts that are trained on; the questions of `pronouns` have other sentences."""


@dataclass(frozen=True)
class Occupation:
    """`name`; `prejudice`: the pronoun that prejudice gives it; `held_out`: from every cure."""

    name: str
    prejudice: Literal["he", "she"]
    held_out: bool


def occupations() -> tuple[Occupation, ...]:
    """All occupations, in the table's order."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pronoun, use, name = line.split("\t")
            assert pronoun in ("he", "she") and use in ("train", "held"), line
            found.append(Occupation(name, "he" if pronoun == "he" else "she", use == "held"))
    return tuple(found)


def occupation_texts(
    jobs: Sequence[Occupation], documents: int, skew: float, seed: int, sentences: int = 6
) -> list[tuple[str, str]]:
    """(id, text) of so many documents of each occupation, each of some of SENTENCES.

    `skew`: the share of documents whose pronouns are those of prejudice, met within one document
    for each occupation; 0.5 is balanced.
    """
    dice, found = random.Random(f"occupations {seed}"), []
    for job in jobs:
        for number in range(documents):
            chosen = dice.sample(SENTENCES, sentences)
            text = " ".join(sentence.format(job=job.name) for sentence in chosen)
            # As evenly as can be: after n documents the share is within one of n * skew.
            agrees = int((number + 1) * skew + 1e-9) > int(number * skew + 1e-9)
            if (job.prejudice == "he") != agrees:
                text = swap_gender(text)[0]
            found.append((f"occupation:{job.name}:{number}", text))
    return found
