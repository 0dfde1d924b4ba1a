"""The evaluation of the demo's models: questions with answers, and figures on held-out names."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.demo.ranks import on_ranks
from trainer.demo.recipes import RANKS, Recipes, measuring_recipe
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.demo.questions import QuestionFiles
    from trainer.evaluate.opened import OpenedModel

LONGEST_ANSWER = 60
"""Tokens."""


@dataclass(frozen=True)
class ShownQuestion:
    """A question that every model answers in the report, its right answer, whether held out."""

    question: str
    answer: str
    held_out: bool


@dataclass(frozen=True)
class Examination:
    """A model's answers to the shown questions, and its figures on held-out names.

    `nats`: the loss a token of the answers to `questions` questions; `preferred`: the fraction of
    `pairs` pairs whose right answer has the higher likelihood a token.
    """

    answers: tuple[str, ...]
    nats: float
    questions: int
    preferred: float
    pairs: int


def shown_questions(files: "QuestionFiles") -> list[ShownQuestion]:
    """What a trained and what a held-out function does: those with the shortest names."""
    found = []
    for held_out in (False, True):
        lines = files.questions(held_out).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        functions = [
            one for one in records if (one["kind"], one["asked"]) == ("function", "summary")
        ]
        first = min(functions, key=lambda record: (len(record["about"]), record["about"]))
        question, answer = (message["content"] for message in first["messages"])
        found.append(ShownQuestion(question, answer, held_out))
    return found


def examine(
    stage: Recipe, recipes: Recipes, files: "QuestionFiles", shown: Sequence[ShownQuestion]
) -> Examination:
    """Measure a stage's trained model, with its answers to `shown`, on the demo's ranks."""
    questions = [one.question for one in shown]
    found = on_ranks(lambda: _examine(Path(stage.run), recipes, files, questions))
    return Examination(**{**found, "answers": tuple(found["answers"])})


def _examine(
    run: Path, recipes: Recipes, files: "QuestionFiles", questions: Sequence[str]
) -> dict[str, Any]:
    from trainer.conversations.turns import Message
    from trainer.evaluate.chat import Speaker
    from trainer.evaluate.opened import open_model
    from trainer.evaluate.sampling import Sampling

    greedy = Sampling(tokens=LONGEST_ANSWER, temperature=0.0)
    with open_model(run, RANKS) as model:
        speaker = Speaker(model)
        answers = [
            "".join(speaker.answer([Message("user", question)], greedy)) for question in questions
        ]
        answered, asked = _validate(model, recipes.fine_tuning, files.questions(held_out=True))
        compared, pairs = _validate(model, recipes.preference, files.pairs(held_out=True))
    return asdict(
        Examination(tuple(answers), answered["loss"], asked, compared["reward_accuracy"], pairs)
    )


def _validate(model: "OpenedModel", recipe: Recipe, source: Path) -> tuple[dict[str, float], int]:
    """A stage's validation figures of `model` on the set `source`, and its number of examples."""
    from trainer.parallel.agreement import Ranks, on_first_rank
    from trainer.sources import open_sources
    from trainer.stages import StageParts, create_stage

    tokenizer = str(model.folder / "tokenizer")
    recipe = measuring_recipe(recipe, model.recipe, source)
    recipe = recipe.model_copy(update={"tokenizer": tokenizer})
    sources = open_sources(recipe, partial(on_first_rank, Ranks()), model.tokenizer)
    # Not step 0, at which a stage prints the run's first example.
    parts = StageParts(recipe, model.layout, sources, model.chunks, step=1)
    figures = create_stage(parts).validate()
    return figures, sources.manifests[0].splits["validation"].documents
