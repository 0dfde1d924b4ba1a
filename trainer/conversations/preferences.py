"""Preferences: pairs of answers, and answers judged good or bad.

| fields | what |
|---|---|
| `prompt`, `chosen`, `rejected` | strings: bare text; or lists of messages |
| `chosen`, `rejected` | two whole conversations, whose shared beginning is the prompt |
| `prompt`, `completion`, `label` | one answer, and whether it is good |

Where sides are whole conversations, a `prompt` beside them must be what they begin with. Only the
answers are learnt, not those that stand in a prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.conversations.forms import (
    fields_of,
    messages_of,
    present,
    prompt_and_answer,
    tools_of,
    with_system,
)
from trainer.conversations.marking import FlaggedTokens, mark
from trainer.conversations.records import Example
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation, Message, check_turns, content_hash
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.token_flags import GOOD, SEGMENT
from trainer.errors import DataError


@dataclass(frozen=True)
class Answered:
    """A prompt and one answer to it."""

    conversation: Conversation
    answer: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the answer."""
        return self.conversation.messages[: -len(self.answer)]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, of which the first is preferred."""

    chosen: Answered
    rejected: Answered

    @property
    def identity(self) -> str:
        """SHA-256 of the content, in hex."""
        return content_hash([side.conversation.identity for side in (self.chosen, self.rejected)])

    @property
    def characters(self) -> int:
        """Of the prompt and both answers."""
        answer = sum(len(message.content) for message in self.rejected.answer)
        return self.chosen.conversation.characters + answer


@dataclass(frozen=True)
class Judged:
    """An answer, whether it is good, and the identity of the example it comes from."""

    side: Answered
    good: bool
    identity: str


def pair_of(example: Example) -> Pair:
    """The pair that an object holds. Raises DataError, naming its place, if none."""
    record, place = present(example.record), example.place
    if not {"chosen", "rejected"} <= record.keys():
        raise DataError(
            f"{place}: unknown form, with {fields_of(record)}: a pair has chosen and rejected"
            + ("; judged answers are for preference.loss=kto" if "label" in record else "")
        )
    prompt, chosen, rejected = _parts(record, place)
    plain = all(isinstance(record.get(name), str) for name in ("prompt", "chosen", "rejected"))
    if _said(chosen) == _said(rejected):
        raise DataError(f"{place}: chosen and rejected are equal: there is nothing to prefer")
    if not plain:
        prompt = with_system(record, prompt, place)
    tools = tools_of(record, place)
    sides = [
        _answered(prompt, answer, f"{place}: {name}", Conversation((), place, tools, plain))
        for name, answer in (("chosen", chosen), ("rejected", rejected))
    ]
    return Pair(*sides)


def judged_of(example: Example) -> list[Judged]:
    """The judged answers of an object: one, or the two of a pair. Raises DataError if none."""
    record, place = present(example.record), example.place
    if {"chosen", "rejected"} <= record.keys():
        pair = pair_of(example)
        return [
            Judged(pair.chosen, True, pair.identity),
            Judged(pair.rejected, False, pair.identity),
        ]
    if not {"prompt", "completion", "label"} <= record.keys():
        raise DataError(
            f"{place}: unknown form, with {fields_of(record)}: known are prompt + completion +"
            " label, chosen + rejected"
        )
    label = record["label"]
    if label not in (0, 1):
        raise DataError(f"{place}: label {label!r} is neither true nor false")
    prompt, answer = record["prompt"], record["completion"]
    plain = isinstance(prompt, str) and isinstance(answer, str)
    before, after = prompt_and_answer(prompt, answer, ("prompt", "completion"), place)
    if not plain:
        before = with_system(record, before, place)
    bare = Conversation((), place, tools_of(record, place), plain)
    side = _answered(before, after, str(place), bare)
    identity = content_hash([side.conversation.identity, bool(label)])
    return [Judged(side, bool(label), identity)]


def mark_pair(pair: Pair, template: ChatTemplate) -> FlaggedTokens:
    """The chosen segment, then the rejected one, whose first token has SEGMENT; uint32 [a + b].

    Each is the prompt and its answer, marked as `mark` does.
    """
    chosen = mark(pair.chosen.conversation, template)
    return _joined(chosen, mark(pair.rejected.conversation, template))


def mark_judged(
    judged: Judged, own: FlaggedTokens, other: tuple[Message, ...], template: ChatTemplate
) -> FlaggedTokens:
    """The answer's segment, its first token with GOOD if it is good; then, with SEGMENT, the same
    prompt with `other`, an answer to another prompt; uint32 [a + b].

    `own` is its conversation as `mark` gives it. By the second segment KTO estimates how far the
    model is from its reference (arXiv:2402.01306, 4.1).
    """
    first = own.copy()
    if judged.good:
        first[0] |= np.uint32(GOOD)
    strange = replace(judged.side.conversation, messages=(*judged.side.prompt, *other))
    return _joined(first, mark(strange, template))


def _joined(first: FlaggedTokens, second: FlaggedTokens) -> FlaggedTokens:
    second[0] |= np.uint32(SEGMENT)
    return np.concatenate((first, second))


def _answered(
    prompt: list[Message], answer: list[Message], where: str, bare: Conversation
) -> Answered:
    """The two joined into `bare`, their order checked; `where` is what an error begins with."""
    messages = check_turns([*prompt, *answer], where)
    if answer[0].role != "assistant":
        raise DataError(f"{where}: begins with the {answer[0].role}'s turn, not with an answer")
    return Answered(replace(bare, messages=messages), tuple(answer))


def _said(answer: list[Message]) -> list[tuple[str, str]]:
    # Templates strip what messages begin and end with.
    return [(message.role, message.content.strip()) for message in answer]


def _parts(
    record: Mapping[str, Any], place: RecordLocation
) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected answer as messages."""
    prompt, chosen, rejected = (record.get(name) for name in ("prompt", "chosen", "rejected"))
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise DataError(f"{place}: of chosen and rejected one is a string and one is not")
    if isinstance(chosen, str):
        if prompt is None:
            raise DataError(
                f"{place}: has no prompt: give one, or chosen and rejected as lists of messages"
            )
        before, first = prompt_and_answer(prompt, chosen, ("prompt", "chosen"), place)
        return before, first, [Message("assistant", str(rejected))]
    sides = messages_of(chosen, "chosen", place), messages_of(rejected, "rejected", place)
    if prompt is not None and all(side[0].role == "assistant" for side in sides):
        return prompt_and_answer(prompt, chosen, ("prompt", "chosen"), place)[0], *sides
    return _shared(prompt, sides, place)


def _shared(
    prompt: Any, sides: tuple[list[Message], list[Message]], place: RecordLocation
) -> tuple[list[Message], list[Message], list[Message]]:
    """The beginning that two conversations share, and what each goes on with."""
    if _said(sides[0]) == _said(sides[1]):
        raise DataError(f"{place}: chosen and rejected are equal: there is nothing to prefer")
    length = 0
    while length < min(map(len, sides)) and sides[0][length] == sides[1][length]:
        length += 1
    shared = sides[0][:length]
    if isinstance(prompt, str):
        begins = any(prompt.strip() == one.content.strip() for one in shared if one.role == "user")
    else:
        given = messages_of(prompt, "prompt", place) if prompt is not None else shared
        begins = _said(given) == _said(shared)
    if not begins or length == 0:
        raise DataError(
            f"{place}: chosen and rejected do not begin with"
            + (" the same prompt" if prompt is None else ' "prompt"')
        )
    if shared[-1].role not in ("user", "tool") or length == min(map(len, sides)):
        raise DataError(
            f"{place}: chosen and rejected differ behind turn {length}, which is no question: only"
            " their answers to one prompt may differ"
        )
    before = [replace(message, supervised=False) for message in shared]
    return before, sides[0][length:], sides[1][length:]
