"""A conversation: its messages, and what their order must be."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from trainer.corpus.reading.quarantine import RecordLocation
from trainer.errors import DataError


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `role` is system, user, assistant or tool.

    `supervised`: whether the model is to learn this answer; false for those it only sees.
    """

    role: str
    content: str
    name: str | None = None
    supervised: bool = True


@dataclass(frozen=True)
class Conversation:
    """Messages in their order, the last one an answer; `tools` are JSON schemas for the template.

    `plain`: a prompt and its completion as bare text, which no template renders.
    """

    messages: tuple[Message, ...]
    place: RecordLocation
    tools: tuple[Mapping[str, Any], ...] = ()
    plain: bool = False

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the content, in hex; the same wherever it stands, and in whatever form."""
        content = [[asdict(message) for message in self.messages], self.tools, self.plain]
        return content_hash(content)

    @property
    def characters(self) -> int:
        """Of all messages."""
        return sum(len(message.content) for message in self.messages)


def content_hash(content: Any) -> str:
    """SHA-256 of JSON values, in hex."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_turns(messages: Sequence[Message], place: RecordLocation | str) -> tuple[Message, ...]:
    """The messages without an empty system prompt; `place` is what an error begins with.

    Raises DataError, naming the turn (from 1), unless a user begins, user and assistant alternate
    (tools' messages stand between two of the assistant's), every answer says something, the last
    message is an answer, and one of them is supervised.
    """
    previous = None
    for number, message in enumerate(messages, start=1):
        if message.role == "system":
            if number > 1:
                raise DataError(f"{place}: turn {number}: a system prompt stands only in front")
            continue
        if wrong := _out_of_order(previous, message.role, number):
            raise DataError(f"{place}: {wrong}")
        if message.role != "tool" and not message.content.strip():
            whose = "answer" if message.role == "assistant" else "user's turn"
            raise DataError(f"{place}: turn {number}: the {whose} is empty")
        previous = message.role
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise DataError(f"{place}: has no assistant turn")
    if previous != "assistant":
        raise DataError(
            f"{place}: ends without an assistant turn: the {previous}'s, turn {len(messages)}, is"
            " unanswered"
        )
    if not any(answer.supervised for answer in answers):
        raise DataError(f"{place}: every answer has weight 0: there is nothing to learn")
    return tuple(m for m in messages if m.role != "system" or m.content.strip())


def _out_of_order(previous: str | None, role: str, number: int) -> str | None:
    """Why this role may not follow the previous one; None if it may."""
    if previous is None:
        return None if role == "user" else f"begins with the {role} (turn {number}), not the user"
    if role == previous != "tool":
        return f"does not alternate: turns {number - 1} and {number} are both the {role}'s"
    if (previous, role) == ("user", "tool"):
        return f"turn {number}: a tool's message follows the user's, and no assistant called it"
    if (previous, role) == ("tool", "user"):
        return f"turn {number}: the user speaks before the assistant answers the tool"
    return None
