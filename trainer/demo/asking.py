"""Questions to the demo's real model: about what exists, and about what does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.demo.ranks import on_ranks
from trainer.demo.recipes import RANKS
from trainer.questions.question import Question
from trainer.questions.verdict import Found

ASKED = Path(__file__).with_name("asked.jsonl")
"""None of them is in the bank, nor any fact that they ask for, nor any name that is made up."""
LONGEST_ANSWER = 40
"""Tokens."""


@dataclass(frozen=True)
class VerifiedAnswer:
    """What a model says to a question, and what that comes to."""

    text: str
    outcome: Found


def demo_questions() -> list[Question]:
    """The questions that the demo asks."""
    from trainer.questions.reading import read_questions

    return read_questions([str(ASKED)])


def verified_answers(checkpoint: Path, questions: Sequence[Question]) -> list[VerifiedAnswer]:
    """The likeliest answers of a checkpoint, or of a run, verified by the questions' keys.

    Raises what opening a model raises, and DataError where it has no answer.
    """
    from trainer.questions.verifiers import verify

    texts = on_ranks(lambda: _texts(checkpoint, questions))
    return [
        VerifiedAnswer(text, verify(question, text).outcome)
        for question, text in zip(questions, texts, strict=True)
    ]


def _texts(checkpoint: Path, questions: Sequence[Question]) -> list[str]:
    from trainer.errors import DataError
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.opened import open_model
    from trainer.evaluate.respondent import TextQuery, WrittenAnswer

    queries = [TextQuery(one.prompt, LONGEST_ANSWER) for one in questions]
    with open_model(checkpoint, RANKS, ["parallel.tensor=1"]) as model:  # each rank has all of it
        found = dict(ModelRespondent.of(model).responses(queries))
    texts = []
    for number, question in enumerate(questions):
        answer = found[number]
        if not isinstance(answer, WrittenAnswer):
            raise DataError(f"{question.named}: {checkpoint} has no answer to it: {answer}")
        texts.append(answer.text)
    return texts
