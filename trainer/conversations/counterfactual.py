"""Counterfactuals of examples: the gendered terms of all turns swapped together.

What the system, the user and the assistant say is swapped, reasoning too, as one text: a name in
the first turn changes for a pronoun in the last. Tool calls, tools' results and schemas, documents,
variables and names of speakers stay as they are. An example of which they hold a term or a name
that has a counterpart gets no counterfactual, nor does one that names in its text a word of its
code: the answer would be about somebody else than the call.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from trainer.conversations.marking import ExampleCounts
from trainer.conversations.pairs import Answered, Judged, Pair
from trainer.conversations.turns import Conversation, Message
from trainer.corpus.rules.counterfactual import is_chosen
from trainer.corpus.rules.gender_swap import count_gendered, swap_together
from trainer.recipe.fine_tuning import BalanceSection

SWAPPED = "gendered terms swapped"
BOUND = "gendered terms in calls, documents or code, and so without a counterfactual"
ALIKE = "answers that are equal once swapped, and so without a counterfactual"
TOO_LONG = "a counterfactual left out as too long"

_Held = TypeVar("_Held")


@dataclass(frozen=True, slots=True)
class Version(Generic[_Held]):
    """An example as it is used: itself, or its counterfactual, which may stand beside it.

    `identity` is that of the example as it was read, so that both are on one side of the split.
    """

    held: _Held
    identity: str
    counterfactual: bool = False
    beside: bool = False


class Counterfactuals:
    """The versions of a set's examples; what was swapped, and what could not be, is counted."""

    def __init__(self, section: BalanceSection, counts: ExampleCounts) -> None:
        self._section, self._counts = section, counts

    def of_conversation(self, conversation: Conversation) -> list[Version[Conversation]]:
        """The example, or what takes its place; then what stands beside it."""
        swapped = self._swapped([conversation], conversation.identity)
        other = swapped[0] if swapped else None
        return self._versions(conversation, other, conversation.identity)

    def of_pair(self, pair: Pair) -> list[Version[Pair]]:
        """As `of_conversation`; both answers are swapped with their prompt."""
        other, sides = None, (pair.chosen, pair.rejected)
        swapped = self._swapped([side.conversation for side in sides], pair.identity)
        if swapped:
            other = Pair(*map(_answered, sides, swapped))
        return self._versions(pair, other, pair.identity)

    def of_judged(self, answers: Sequence[Judged]) -> list[list[Version[Judged]]]:
        """As `of_conversation`, of each of an example's judged answers, swapped together."""
        if not answers:
            return []
        conversations = [one.side.conversation for one in answers]
        swapped = self._swapped(conversations, answers[0].identity)
        others: list[Judged | None] = [None] * len(answers)
        if swapped:
            others = [
                replace(one, side=_answered(one.side, conversation))
                for one, conversation in zip(answers, swapped, strict=True)
            ]
        return [
            self._versions(one, other, one.identity)
            for one, other in zip(answers, others, strict=True)
        ]

    def too_long(self) -> None:
        """Count a counterfactual that does not fit, whose example is used without it."""
        self._count(TOO_LONG)

    def _versions(self, held: _Held, other: _Held | None, identity: str) -> list[Version[_Held]]:
        if other is None:
            return [Version(held, identity)]
        if self._section.replace:
            return [Version(other, identity, counterfactual=True)]
        return [Version(held, identity), Version(other, identity, True, beside=True)]

    def _swapped(self, given: Sequence[Conversation], identity: str) -> list[Conversation] | None:
        """The conversations of one example swapped; None where it is to stay as it is."""
        if not is_chosen(identity, self._section.counterfactual):
            return None
        messages = [message for one in given for message in one.messages]
        swapped = swap_together([text for message in messages for text in _texts(message)])
        if not swapped.count:
            return None
        if swapped.torn or any(count_gendered(text) for one in given for text in _bound(one)):
            self._count(BOUND)
            return None
        texts = iter(swapped.texts)
        made = [
            replace(one, messages=tuple(_with_texts(message, texts) for message in one.messages))
            for one in given
        ]
        if len(made) > 1 and made[0].messages == made[1].messages:
            self._count(ALIKE)
            return None
        if self._section.replace:
            self._count(SWAPPED)
        return made

    def _count(self, change: str) -> None:
        self._counts.changes[change] = self._counts.changes.get(change, 0) + 1


def _answered(side: Answered, conversation: Conversation) -> Answered:
    return Answered(conversation, conversation.messages[-len(side.answer) :])


def _texts(message: Message) -> Iterator[str]:
    """What is swapped of a turn; `_with_texts` takes it back in this order."""
    if message.role == "tool":
        return
    if message.parts is None:
        yield message.content
    else:
        yield from (str(part[str(part["type"])]) for part in message.parts)
    if message.reasoning is not None:
        yield message.reasoning


def _with_texts(message: Message, texts: Iterator[str]) -> Message:
    if message.role == "tool":
        return message
    parts = message.parts
    if parts is None:
        content = next(texts)
    else:
        parts = tuple({**part, str(part["type"]): next(texts)} for part in parts)
        content = "".join(str(part["text"]) for part in parts if part["type"] == "text")
    reasoning = message.reasoning if message.reasoning is None else next(texts)
    return message._replace(content=content, parts=parts, reasoning=reasoning)


def _bound(conversation: Conversation) -> Iterator[str]:
    """What stands beside the turns' texts, as text."""
    beside: list[Any] = [conversation.tools, conversation.documents, dict(conversation.variables)]
    for message in conversation.messages:
        beside += [message.calls, message.name, dict(message.extras)]
        beside += [message.content] if message.role == "tool" else []
    for held in beside:
        if held:
            yield json.dumps(held, ensure_ascii=False, default=str)
