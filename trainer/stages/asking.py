"""Asks the policy: which questions a sampling puts to it, and what it writes in answer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.data.order import Purpose, permutation
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError, LyceumError, TrainingError
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.prompts import PROMPT, PromptEncoder
from trainer.evaluate.respondent import Prompt, TextQuery, Unanswered, WrittenAnswer
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.questions.named import named_questions
from trainer.questions.question import Question
from trainer.recipe import Recipe
from trainer.sources import Sources


@dataclass(frozen=True)
class AskedQuestion:
    """A question, with the token ids that ask it."""

    question: Question
    prompt: Prompt
    ids: tuple[int, ...]


class QuestionOrder:
    """Question n of a run follows from the seed alone: each epoch is a permutation of them all."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._order = -1, permutation(0, seed, Purpose.QUESTIONS, 0)

    def __getitem__(self, place: int) -> int:
        epoch, within = divmod(place, self._count)
        if epoch != self._epoch:
            self._order = permutation(self._count, self._seed, Purpose.QUESTIONS, epoch)
            self._epoch = epoch
        return int(self._order[within])


def asked_questions(recipe: Recipe, sources: Sources) -> list[AskedQuestion]:
    """The questions of `reinforce`, in the form in which they are put to the model.

    Raises DataError, naming the question, where a file or a question cannot be used, and where a
    question leaves no room for an answer of `reinforce.tokens`.
    """
    section = recipe.reinforce
    questions = named_questions(section.questions, section.verifier, "reinforce.questions")
    return put_to_model(questions, recipe, sources.tokenizer, section.tokens, "reinforce.tokens")


def put_to_model(
    questions: Sequence[Question], recipe: Recipe, tokenizer: Tokenizer, tokens: int, key: str
) -> list[AskedQuestion]:
    """Questions in the form in which the recipe's model is asked them.

    Raises DataError, naming the question, where one cannot be put to it, and where one leaves no
    room for an answer of so many `tokens`, which `key` sets.
    """
    encoder, system = PromptEncoder(tokenizer, recipe), recipe.conversations.system
    found = []
    for question in questions:
        prompt = question.prompt
        if system is not None and prompt.system is None:
            prompt = replace(prompt, system=system)
        try:
            ids = tuple(encoder.ids(prompt))
        except LyceumError as error:
            reason = str(error).removeprefix(f"{PROMPT}: ")
            raise DataError(f"{question.named}: cannot be put to the model: {reason}") from None
        if len(ids) + tokens > recipe.sequence_length:
            raise DataError(
                f"{question.named}: {len(ids)} tokens, and {tokens} of an answer ({key}), are more"
                f" than sequence_length {recipe.sequence_length}; raise that, lower {key}, or"
                " leave the question out"
            )
        found.append(AskedQuestion(question, prompt, ids))
    return found


def digest_of(questions: Sequence[AskedQuestion]) -> str:
    """24 hex digits that follow from the questions, in their order, and their keys."""
    digest = hashlib.sha256()
    for asked in questions:
        one = asked.question
        key = (one.id, asked.prompt, one.answers, one.verifier, sorted(one.options.items()))
        digest.update(repr(key).encode())
    return digest.hexdigest()[:24]


class Policy:
    """The model that trains, as the one who answers. Collective."""

    def __init__(
        self, chunks: list[LanguageModel], recipe: Recipe, layout: Layout, sources: Sources
    ):
        self._section, self._seed = recipe.reinforce, recipe.seed
        self._respondent = ModelRespondent(chunks, recipe, layout, sources.tokenizer)

    def answers(self, questions: Sequence[AskedQuestion], first: int) -> list[WrittenAnswer]:
        """`reinforce.group` answers to each question, one question's together, equal on all ranks.

        `first`: the run's number of the first of these questions: draws follow from it and the
        seed. Raises TrainingError where the model's log-probabilities are not finite.
        """
        section = self._section
        queries = [
            TextQuery(
                asked.prompt,
                section.tokens,
                temperature=section.temperature,
                seed=draws_for(self._seed, "reinforce", first + number, copy),
                top_k=section.top_k,
                top_p=section.top_p,
            )
            for number, asked in enumerate(questions)
            for copy in range(section.group)
        ]
        found: dict[int, Any] = dict(self._respondent.responses(queries))
        for number, answer in sorted(found.items()):
            if isinstance(answer, Unanswered):
                asked = questions[number // section.group].question
                raise TrainingError(
                    f"{asked.named}: the model has no answer to it: {answer.reason}; lower"
                    " optimizer.lr, and resume from an earlier checkpoint"
                )
        return [found[number] for number in range(len(queries))]


def draws_for(*parts: str | int) -> int:
    """The seed of a text's draws, which follows from these parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "little")
