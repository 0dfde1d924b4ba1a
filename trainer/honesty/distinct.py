"""Questions of which each is asked once, and the messages that ask them."""

from collections.abc import Sequence
from typing import Any, Literal

from trainer.honesty.refusing import key_of
from trainer.questions.question import Question
from trainer.questions.samples import SampledQuestion

QuestionOrigin = Literal["known", "wrong", "unknowable"]
"""What a question is to the model: it knows the answer, does not, or nobody can."""


def distinct(sampled: Sequence[SampledQuestion]) -> list[SampledQuestion]:
    """One question of each prompt, the first by its id, in the order of their ids."""
    found: dict[tuple[str | None, str], SampledQuestion] = {}
    for one in sorted(sampled, key=lambda one: key_of(one.question)):
        found.setdefault((one.question.system, one.question.text), one)
    return list(found.values())


def origin_of(sampled: SampledQuestion, threshold: float) -> QuestionOrigin:
    """What a question is to the model, which knows it from this share of right texts on."""
    if not sampled.question.answerable:
        return "unknowable"
    return "known" if sampled.right_share >= threshold else "wrong"


def prompt_messages(question: Question) -> list[dict[str, str]]:
    """The turns before the answer."""
    system = [{"role": "system", "content": question.system}] if question.system else []
    return [*system, {"role": "user", "content": question.text}]


def answer_message(text: str) -> dict[str, str]:
    """The assistant's turn."""
    return {"role": "assistant", "content": text}


def about(question: Question, origin: str) -> dict[str, Any]:
    """What an example says of itself, for those who look it up; no template reads it."""
    place = {"place": question.place} if question.place else {}
    return {"id": question.id, "origin": origin, **place}
