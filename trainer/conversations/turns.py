"""A conversation: its messages, and what their order must be."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import orjson

from trainer.corpus.reading.quarantine import RecordLocation
from trainer.errors import DataError

GREETING = "greeting before the first question seen, not learnt"
UNANSWERED = "last turn without an answer cut"
JOINED = "turns of one role joined"
THINKING = ("thinking", "reasoning")
"""Kinds of content parts that hold reasoning."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Keys of an answer's reasoning, as transformers reads them: the first that is there counts."""
NO_SYSTEM = "empty system turn of a ShareGPT set left out"


class Message(NamedTuple):
    """One turn: `role` is system, user, assistant or tool. A tuple, because many are made.

    `content` is the turn's text, without the reasoning in front of it (`reasoning`) and the tool
    calls behind it (`calls`: {"type": "function", "function": {"name", "arguments"}}). `parts`:
    the content as a list of parts, where it was written so, thinking among them. `structured`: a
    tool's result that is no text but an object or a list, `content` being its JSON. `extras`: the
    turn's further keys, for the template that reads them. `absent`: the content was null.
    `supervised`: whether the model is to learn this answer; false for those it only sees.
    """

    role: str
    content: str
    name: str | None = None
    supervised: bool = True
    reasoning: str | None = None
    calls: tuple[Mapping[str, Any], ...] = ()
    parts: tuple[Mapping[str, Any], ...] | None = None
    extras: Mapping[str, Any] = MappingProxyType({})
    absent: bool = False
    structured: Any = None

    @property
    def speaks(self) -> bool:
        """Whether it says or calls anything."""
        return bool(self.content.strip() or self.calls)

    @property
    def thinking(self) -> tuple[Mapping[str, Any], ...]:
        """Its parts that hold reasoning."""
        return tuple(part for part in self.parts or () if part.get("type") in THINKING)


@dataclass(frozen=True)
class Conversation:
    """Messages in their order, the last one an answer.

    `tools` (JSON schemas), `documents` and `variables` are what the template gets beside them.
    `plain`: a prompt and its completion as bare text, which no template renders. `unread`: keys of
    the record that no form reads; `changes`: what was done to the order of its turns, in words.
    `goes_on`: the last answer is the beginning of one, whose end is not to be learnt.
    """

    messages: tuple[Message, ...]
    place: RecordLocation
    tools: tuple[Mapping[str, Any], ...] = ()
    plain: bool = False
    documents: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    goes_on: bool = False

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the content, in hex; the same wherever it stands, and in whatever form."""
        content: list[Any] = [list(map(_content, self.messages)), self.tools, self.plain]
        if self.documents or self.variables:
            content += [self.documents, dict(self.variables)]
        if self.goes_on:
            content.append("goes on")
        return content_hash(content)

    @property
    def characters(self) -> int:
        """Of all messages, with their reasoning and their tool calls."""
        return sum(map(_characters, self.messages))


def _content(message: Message) -> dict[str, Any]:
    content: dict[str, Any] = {
        "role": message.role,
        "content": message.content,
        "name": message.name,
        "supervised": message.supervised,
    }
    further = ("reasoning", message.reasoning), ("calls", message.calls), ("extras", message.extras)
    for key, held in further:
        if held:
            content[key] = dict(held) if isinstance(held, Mapping) else held
    return content


def _characters(message: Message) -> int:
    if message.reasoning is None and not message.calls:
        return len(message.content)
    calls = sum(len(json.dumps(call, ensure_ascii=False)) for call in message.calls)
    return len(message.content) + len(message.reasoning or "") + calls


def content_hash(content: Any) -> str:
    """SHA-256 of JSON values, and of Parquet's others, in hex."""
    try:
        encoded = orjson.dumps(content, option=orjson.OPT_SORT_KEYS, default=repr)
    except TypeError:
        # orjson takes no number above 64 bits.
        encoded = json.dumps(content, sort_keys=True, default=repr).encode()
    return hashlib.sha256(encoded).hexdigest()


def ordered(
    messages: Sequence[Message],
    place: RecordLocation | str,
    same_role: Literal["join", "refuse"] = "refuse",
    answered: bool = False,
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages as they are rendered, and what was changed; `place` begins an error's line.

    A greeting (an answer before the first question) is seen and not learnt, since nobody asks for
    it; turns behind the last answer are cut, unless it must be `answered`; two turns of one role
    are joined by a blank line, or refused. Raises DataError, naming the turn (from 1), for two to
    be joined that have different names, and unless user and assistant then alternate (tools'
    messages stand between two of the assistant's), every answer says something, and one of them is
    supervised.
    """
    changes: list[str] = []
    found: list[Message] = []
    asked = False
    last = next(
        (n for n in reversed(range(len(messages))) if messages[n].role == "assistant"), None
    )
    if last is not None and last < len(messages) - 1 and not answered:
        changes.append(UNANSWERED)
        messages = messages[: last + 1]
    for number, message in enumerate(messages, start=1):
        if message.role == "system" and (not found or found[-1].role != "system"):
            if number > 1:
                raise DataError(f"{place}: turn {number}: a system prompt stands only in front")
            found.append(message)
            continue
        previous = found[-1].role if found else None
        if previous == "system" != message.role:
            previous = None
        joins = same_role == "join" and message.role == previous != "tool"
        # Calls stand behind what a turn says: nothing can follow them in the same turn.
        if joins and not (found[-1].calls and message.content):
            if found[-1].name != message.name:
                raise DataError(f"{place}: {_two_names(found[-1], message, number)}")
            found[-1] = _joined(found[-1], message)
            changes.append(JOINED)
            continue
        if wrong := _out_of_order(previous, message.role, number):
            raise DataError(f"{place}: {wrong}")
        if message.role != "tool" and not message.speaks:
            raise DataError(f"{place}: turn {number}: {_empty(message)}")
        asked = asked or message.role == "user"
        if message.role == "assistant" and not asked:
            changes.append(GREETING)
            message = message._replace(supervised=False)
        found.append(message)
    if last is None:
        raise DataError(f"{place}: has no assistant turn")
    if found[-1].role != "assistant":
        raise DataError(
            f"{place}: ends without an assistant turn: the {found[-1].role}'s, turn {len(found)},"
            " is unanswered"
        )
    if not any(one.role == "assistant" and one.supervised for one in found):
        why = "only a greeting" if GREETING in changes else "every answer has weight 0"
        raise DataError(f"{place}: {why}: there is nothing to learn")
    return tuple(found), tuple(changes)


def _joined(first: Message, second: Message) -> Message:
    """The two turns as one; it is learnt where both are."""
    parts = None
    if first.parts is not None or second.parts is not None:
        parts = (*_parts(first), {"type": "text", "text": "\n\n"}, *_parts(second))
    contents = [text for text in (first.content, second.content) if text]
    reasons = [text for text in (first.reasoning, second.reasoning) if text]
    return first._replace(
        content="\n\n".join(contents),
        reasoning="\n\n".join(reasons) or None,
        calls=(*first.calls, *second.calls),
        extras={**first.extras, **second.extras},
        parts=parts,
        supervised=first.supervised and second.supervised,
        absent=first.absent and second.absent,
    )


def _two_names(first: Message, second: Message, number: int) -> str:
    return (
        f"turns {number - 1} and {number} have the names {first.name or 'none'} and"
        f" {second.name or 'none'}, and joined they would have one: write the names into the texts"
    )


def _parts(message: Message) -> tuple[Mapping[str, Any], ...]:
    thought = ({"type": "thinking", "thinking": message.reasoning},) * bool(message.reasoning)
    return message.parts or (*thought, {"type": "text", "text": message.content})


def _empty(message: Message) -> str:
    whose = "answer" if message.role == "assistant" else "user's turn"
    beside = [key for key, held in message.extras.items() if isinstance(held, str) and held.strip()]
    if message.reasoning:
        beside.insert(0, "reasoning")
    held = f", beside {', '.join(beside)}, which is no answer" if beside else ""
    return f"the {whose} is empty{held}"


def _out_of_order(previous: str | None, role: str, number: int) -> str | None:
    """Why this role may not follow the previous one; None if it may."""
    if previous is None:
        return f"begins with the tool (turn {number}), not the user" if role == "tool" else None
    if role == previous != "tool":
        return (
            f"does not alternate: turns {number - 1} and {number} are both the {role}'s: join them,"
            " or set conversations.same_role=join"
        )
    if (previous, role) == ("user", "tool"):
        return f"turn {number}: a tool's message follows the user's, and no assistant called it"
    if (previous, role) == ("tool", "user"):
        return f"turn {number}: the user speaks before the assistant answers the tool"
    return None
