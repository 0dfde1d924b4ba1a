"""The held-out questions: what is known in kinds old and new, and what nobody knows.

*Old kinds*: the bank's (`trainer/questions/bank`), in other wordings and about subjects that it has
in other kinds at most; beside each real subject stands, in the same wordings, one that a chain of
letters made up. *New kinds*: kinds that the bank does not have; what does not exist is written by
hand. *Unanswerable*: for other reasons than a name (the future, what is private, what nobody
recorded).
"""

import random
from dataclasses import replace
from functools import cache
from pathlib import Path

from launch.experiments.truth.letter_chains import chained_word, letter_chains
from trainer.questions.bank import draw
from trainer.questions.bank.draw import known_questions
from trainer.questions.bank.invented import FRAMES, GIVEN_NAMES
from trainer.questions.bank.sections import BankSection, asked, sections_of
from trainer.questions.question import Question

HELD_OUT = Path(__file__).with_name("held_out")
SEED = "held out"
"""Of the questions, which are the same for every model and every seed of the experiment."""
MADE_UP = 360
"""Subjects of the old kinds that letters make up."""
OLD, NEW, UNANSWERABLE = "old kinds", "new kinds", "unanswerable"


@cache
def held_out_questions() -> tuple[Question, ...]:
    """The questions, all sorts in turn, so that the first ones are of all; `kind` is the sort."""
    sorts = [_known("new_items", OLD), _known("new_kinds", NEW), _made_up(), _by_hand(), _never()]
    draws = random.Random(f"{SEED}/order")
    places = []
    for sort in sorts:
        draws.shuffle(sort)
        places += [((place + 0.5) / len(sort), one) for place, one in enumerate(sort)]
    return tuple(one for _, one in sorted(places, key=lambda place: (place[0], place[1].id)))


def _sections(name: str) -> tuple[BankSection, ...]:
    return sections_of(HELD_OUT)[name]


def _known(name: str, sort: str) -> list[Question]:
    kinds = {section.kind for section in _sections(name)}
    questions = known_questions(f"{SEED}/{name}", HELD_OUT)
    return [replace(one, kind=sort) for one in questions if one.kind in kinds]


def _by_hand() -> list[Question]:
    draws = random.Random(f"{SEED}/by hand")
    return [
        _unknown(draws.choice(section.wordings), subject, NEW)
        for section in _sections("new_kinds")
        for subject in section.invented
    ]


def _never() -> list[Question]:
    return [
        Question(f"{UNANSWERABLE}/{text}", text, kind=UNANSWERABLE, reason=section.about)
        for section in _sections("unknowable")
        for text in section.questions
    ]


def _made_up() -> list[Question]:
    """`MADE_UP` of them, of all kinds in turn."""
    draws = random.Random(f"{SEED}/made up")
    sections = [one for file in sections_of(draw.HERE).values() for one in file]
    sections += _sections("new_items")
    named = [fact.subject for section in sections for fact in section.facts]
    chains, real = letter_chains(named), frozenset(" ".join(named).casefold().split())
    kinds = [section for section in _sections("new_items") if section.about in FRAMES]
    found: dict[str, Question] = {}
    while len(found) < MADE_UP:
        for section in kinds[: MADE_UP - len(found)]:
            word, second = (chained_word(chains, real, draws) for _ in range(2))
            frame = draws.choice(FRAMES[section.about])
            subject = frame.format(
                w=word,
                w2=second,
                W=word.capitalize(),
                W2=second.capitalize(),
                L="".join(draws.choices("BDFGHJKLMQRTVWXZ", k=4)),
                given=draws.choice(GIVEN_NAMES),
            )
            question = _unknown(draws.choice(section.wordings), subject, OLD)
            found[question.id] = question
    return list(found.values())


def _unknown(wording: str, subject: str, sort: str) -> Question:
    return Question(
        f"{sort}/{wording}/{subject}",
        asked(wording, subject),
        options={"subject": subject},
        kind=sort,
    )
