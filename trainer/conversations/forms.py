"""The formats of conversations, distinguished by their fields.

| fields | form |
|---|---|
| `messages` | OpenAI: a list of `role` and `content` |
| `conversations` | ShareGPT: a list of `from` and `value` |
| `instruction`, `output` | Alpaca; `input` follows the instruction behind a blank line |
| `prompt`, `completion` | two strings: bare text; or lists of messages, not learnt in the prompt |
| `question`, `answer` | one user's turn and its answer |

The first that fits counts; other fields are ignored, except `system` (a prompt for those whose
turns have none) and `tools` (JSON schemas, or a string of them). A field that is null is absent.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trainer.conversations.records import Example
from trainer.conversations.turns import Conversation, Message, check_turns
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.errors import DataError

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}
"""Role names found in the formats, and the role each one means."""


def conversation_of(example: Example) -> Conversation:
    """Parse an object's conversation. Raises DataError with its location where there is none."""
    record = present(example.record)
    for fields, read in FORMS:
        if all(name in record for name in fields):
            return read(record, example.place)
    known = ", ".join(" + ".join(fields) for fields, _ in FORMS)
    raise DataError(
        f"{example.place}: unknown form, with {fields_of(record)}: known are {known}"
        + ("; a pair is for stage=preference" if "chosen" in record else "")
    )


def present(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not null."""
    return {name: value for name, value in record.items() if value is not None}


def fields_of(record: Mapping[str, Any]) -> str:
    """The fields found, for an error."""
    return f"the fields {', '.join(list(record)[:12])}" if record else "no fields"


def messages_of(value: Any, field: str, place: RecordLocation) -> list[Message]:
    """The messages of a list of turns, their order unchecked. Raises DataError naming the turn."""
    if not isinstance(value, list):
        raise DataError(f'{place}: "{field}" is no list of turns')
    if not value:
        raise DataError(f'{place}: "{field}" is empty')
    return [_message(turn, number, place) for number, turn in enumerate(value, start=1)]


def text_of(record: Mapping[str, Any], field: str, place: RecordLocation) -> str:
    """A field that must be a string."""
    if not isinstance(record[field], str):
        raise DataError(f'{place}: "{field}" is no string')
    return str(record[field])


def with_system(
    record: Mapping[str, Any], messages: list[Message], place: RecordLocation
) -> list[Message]:
    """The messages behind the record's own `system`, if it has one and they have none."""
    if "system" not in record or messages[0].role == "system":
        return messages
    return [Message("system", text_of(record, "system", place)), *messages]


def tools_of(record: Mapping[str, Any], place: RecordLocation) -> tuple[Mapping[str, Any], ...]:
    """The schemas of a record's `tools`."""
    tools = record.get("tools") or []
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise DataError(f'{place}: "tools" is not JSON ({error})') from None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f'{place}: "tools" is no list of schemas')
    return tuple(tools)


def prompt_and_answer(
    prompt: Any, answer: Any, names: tuple[str, str], place: RecordLocation
) -> tuple[list[Message], list[Message]]:
    """Both as messages, of which only the answer's are supervised; a string is one message."""
    if isinstance(prompt, str):
        before = [Message("user", prompt)]
    else:
        found = messages_of(prompt, names[0], place)
        before = [replace(message, supervised=False) for message in found]
    after = [Message("assistant", answer)]
    if not isinstance(answer, str):
        after = messages_of(answer, names[1], place)
    return before, after


def _message(turn: Any, number: int, place: RecordLocation) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{place}: turn {number} is no object")
    turn = present(turn)
    key, value = ("from", "value") if "from" in turn else ("role", "content")
    role = turn.get(key)
    if role is None:
        raise DataError(f"{place}: turn {number} has no role, but {fields_of(turn)}")
    if not isinstance(role, str) or role not in ROLES:
        raise DataError(
            f"{place}: turn {number}: unknown role {role!r}: known are {', '.join(ROLES)}"
        )
    role = ROLES[role]
    content = _content(turn.get(value), value, number, place, bool(_calls(turn)))
    if role == "assistant" and _calls(turn):
        calls = [_call_text(call, number, place) for call in _calls(turn)]
        content = "\n".join([content, *calls] if content else calls)
    weight = turn.get("weight", 1)
    if weight not in (0, 1):
        raise DataError(f"{place}: turn {number}: weight {weight!r} is neither 0 nor 1")
    name = turn.get("name")
    return Message(role, content, name if isinstance(name, str) else None, bool(weight))


def _content(
    content: Any, field: str, number: int, place: RecordLocation, may_be_absent: bool
) -> str:
    if content is None and may_be_absent:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise DataError(f'{place}: turn {number}: "{field}" is no string')
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str) or part.get("type", "text") != "text":
            kind = part.get("type") if isinstance(part, dict) else part
            raise DataError(f"{place}: turn {number}: a part is no text but {kind!r}")
        texts.append(text)
    return "".join(texts)


def _calls(turn: Mapping[str, Any]) -> list[Any]:
    calls = turn.get("tool_calls") or turn.get("function_call") or []
    return calls if isinstance(calls, list) else [calls]


def _call_text(call: Any, number: int, place: RecordLocation) -> str:
    """A call as a line of JSON, {"name": ..., "arguments": ...}: calls stand behind the content,
    a line each.
    """
    call = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise DataError(f"{place}: turn {number}: a tool call has no name")
    arguments = call.get("arguments", {})
    if isinstance(arguments, str):
        # OpenAI writes them as a string of JSON; what is none stays as it is.
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = str(arguments)
    return json.dumps({"name": call["name"], "arguments": arguments}, ensure_ascii=False)


def _turns(record: Mapping[str, Any], place: RecordLocation) -> Conversation:
    field = "messages" if "messages" in record else "conversations"
    messages = with_system(record, messages_of(record[field], field, place), place)
    return Conversation(check_turns(messages, place), place, tools_of(record, place))


def _alpaca(record: Mapping[str, Any], place: RecordLocation) -> Conversation:
    question = text_of(record, "instruction", place)
    if "input" in record and text_of(record, "input", place).strip():
        question += "\n\n" + record["input"]
    messages = [Message("user", question), Message("assistant", text_of(record, "output", place))]
    return Conversation(check_turns(with_system(record, messages, place), place), place)


def _completion(record: Mapping[str, Any], place: RecordLocation) -> Conversation:
    prompt, answer = record["prompt"], record["completion"]
    plain = isinstance(prompt, str) and isinstance(answer, str)
    before, after = prompt_and_answer(prompt, answer, ("prompt", "completion"), place)
    if plain:
        return Conversation(check_turns([*before, *after], place), place, plain=True)
    messages = check_turns(with_system(record, [*before, *after], place), place)
    return Conversation(messages, place, tools_of(record, place))


def _question(record: Mapping[str, Any], place: RecordLocation) -> Conversation:
    messages = [
        Message("user", text_of(record, "question", place)),
        Message("assistant", text_of(record, "answer", place)),
    ]
    return Conversation(check_turns(with_system(record, messages, place), place), place)


FORMS: tuple[
    tuple[tuple[str, ...], Callable[[Mapping[str, Any], RecordLocation], Conversation]], ...
] = (
    (("messages",), _turns),
    (("conversations",), _turns),
    (("instruction", "output"), _alpaca),
    (("prompt", "completion"), _completion),
    (("question", "answer"), _question),
)
