"""Questions drawn from the bank, each with its key, in wordings that follow from a seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from trainer.questions.bank.invented import FRAMES, InventedNames
from trainer.questions.bank.sections import (
    NOTHING_INVENTED,
    UNKNOWABLE,
    BankSection,
    asked,
    sections_of,
)
from trainer.questions.question import Question

HERE = Path(__file__).parent
MANNERS = (
    "Answer in a few words.",
    "Answer briefly. If you do not know, say so.",
    "Give a short answer.",
    "You are a helpful assistant. If a question cannot be answered, say that you do not know.",
    "Answer the question in one sentence, and do not make anything up.",
)
"""System prompts, one before every other question: an answer must not hang on any of them."""
TURNS = 2
"""How often the bank as recipes name it asks about each fact, in wordings that differ: what is
learned is to be about the fact, not about a manner of asking."""
UNKNOWN = 1000
"""Questions that nobody can answer in the bank as recipes name it."""


@cache
def bank_questions() -> tuple[Question, ...]:
    """The bank as recipes name it: each fact `TURNS` times, and `UNKNOWN` that nobody can answer.

    Where both draws give a fact the same wording, it is asked once.
    """
    draws = random.Random("manners")
    known: dict[str, Question] = {}
    for turn in range(TURNS):
        for one in known_questions(turn):
            known.setdefault(one.text, replace(one, id=f"{one.id}/{turn}" if turn else one.id))
    return tuple(
        replace(one, system=draws.choice((None, draws.choice(MANNERS))))
        for one in (*known.values(), *unknown_questions(0, UNKNOWN))
    )


def known_questions(seed: int | str, folder: Path = HERE) -> list[Question]:
    """A question about each fact of the bank, in one of its kind's wordings."""
    draws = random.Random(f"{seed}/known")
    found = []
    for section in _sections(folder, unknowable=False):
        rivals = tuple(dict.fromkeys(name for one in section.facts for name in one.answers))
        for fact in section.facts:
            wording = draws.choice(section.wordings)
            named = {} if section.about == NOTHING_INVENTED else {"subject": fact.subject}
            others = tuple(name for name in rivals if name not in fact.answers)
            options = {**named, "rivals": others}
            name = f"{section.kind}/{fact.subject}"
            text = asked(wording, fact.subject)
            found.append(Question(name, text, fact.answers, options=options, kind=section.kind))
    return found


def unknown_questions(seed: int, count: int, folder: Path = HERE) -> list[Question]:
    """`count` questions that nobody can answer, of all kinds in turn.

    Of each kind of fact they ask of things that do not exist, in that kind's wordings; the others
    are of the file of what cannot be known, whose whole questions come once each.
    """
    draws = random.Random(f"{seed}/unknown")
    facts = [one for one in _sections(folder, unknowable=False) if one.about in FRAMES]
    every = [fact.subject for one in _sections(folder, unknowable=False) for fact in one.facts]
    names = InventedNames(draws, every)
    streams = [_invented(one, names, draws) for one in facts]
    streams += [_unknowable(one, names, draws) for one in _sections(folder, unknowable=True)]
    found: list[Question] = []
    texts: set[str] = set()
    while streams and len(found) < count:
        for stream in list(streams):
            question = next(stream, None)
            if question is None:
                streams.remove(stream)
            elif question.text not in texts and len(found) < count:
                texts.add(question.text)
                found.append(question)
    return found


def _sections(folder: Path, unknowable: bool) -> Sequence[BankSection]:
    files = sections_of(folder).items()
    return [one for name, file in files if (name == UNKNOWABLE) is unknowable for one in file]


def _invented(
    section: BankSection, names: InventedNames, draws: random.Random
) -> Iterator[Question]:
    while True:
        subject = names.name(section.about)
        text = asked(draws.choice(section.wordings), subject)
        yield Question(
            f"invented {section.kind}/{subject}",
            text,
            options={"subject": subject},
            kind=f"invented {section.kind}",
            reason=f"I have never heard of {subject}",
        )


def _unknowable(
    section: BankSection, names: InventedNames, draws: random.Random
) -> Iterator[Question]:
    whole = list(section.questions)
    draws.shuffle(whole)
    for text in whole:
        yield Question(text, text, kind=section.kind, reason=section.about)
    while section.wordings:
        wording = draws.choice(section.wordings)
        pools = [pool for pool in FRAMES if f"{{{pool}}}" in wording]
        for pool in pools:
            wording = wording.replace(f"{{{pool}}}", names.name(pool))
        yield Question(wording, asked(wording, ""), kind=section.kind, reason=section.about)
