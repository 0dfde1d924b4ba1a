"""One turn of a conversation, as the public formats write it, to a message.

Whether an answer is learnt follows from the keys `weight`, `train`, `training`, `trainable` and
`loss_mask` of its turn, which all mean the same: true or 1 (as without them) it is learnt, false or
0 it is only seen. A turn whose keys disagree is refused, and so is any other value: a loss has no
half weights here.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.conversations.columns import Fields, SetNames, fields_of
from trainer.conversations.turns import NO_SYSTEM, REASONING, THINKING, Message
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.errors import DataError
from trainer.parsing import read_json

WEIGHTS = ("weight", "train", "training", "trainable", "loss_mask")
_KNOWN = {"role", "content", "from", "value", "name", "tool_calls", "function_call", *WEIGHTS}
_OTHERWISE = {"function_call", "developer"}
"""Roles of whose turns more is kept than the text."""
_TEXTS = ("text", "input_text", "output_text")
_PARTS = {
    *(*_TEXTS, *THINKING, "image", "image_url", "input_image", "video", "video_url", "audio"),
    *("audio_url", "input_audio", "file", "input_file", "document"),
}
"""Kinds of content parts; a list of other objects is a tool's own."""
_PAIRED = {"input", "output"}


def messages_of(fields: Fields, field: str) -> list[Message]:
    """The messages of a field's turns, their order unchecked.

    A turn is an object with a role and a content; an object with `input` and `output`, which is a
    question and its answer; or, where all are, a string: the user's and the assistant's in turn.
    Raises DataError naming the turn.
    """
    value, place = fields[field], fields.place
    if not isinstance(value, list):
        raise DataError(f'{place}: "{field}" is no list of turns')
    if not value:
        raise DataError(f'{place}: "{field}" is empty')
    found = list(_messages(value, fields.names, place))
    if field == "conversations" and found[0].role == "system" and not found[0].content.strip():
        # ShareGPT's sets write an empty turn where there is no system prompt.
        fields.changes.append(NO_SYSTEM)
        return found[1:]
    return found


def _messages(turns: list[Any], names: SetNames, place: RecordLocation) -> Iterator[Message]:
    strings = all(isinstance(turn, str) for turn in turns)
    for number, turn in enumerate(turns, start=1):
        if (plain := _plain(turn, names)) is not None:
            yield plain
        elif strings:
            yield Message("user" if number % 2 else "assistant", turn)
        elif not isinstance(turn, dict):
            raise DataError(f"{place}: turn {number} is no object")
        elif turn.keys() >= _PAIRED and not turn.keys() & {"role", "from"}:
            yield Message("user", _text(turn["input"], "input", number, place))
            more = {key: held for key, held in turn.items() if key not in _PAIRED}
            answer = {**more, "role": "assistant", "content": turn["output"]}
            yield message_of(answer, number, SetNames(), place)
        else:
            yield message_of(turn, number, names, place)


def _plain(turn: Any, names: SetNames) -> Message | None:
    """The message of a turn of a role and a text alone, as most are; None for any other."""
    if not isinstance(turn, dict) or len(turn) != 2 or names.columns:
        return None
    role, content = turn.get("role") or turn.get("from"), turn.get("content", turn.get("value"))
    if not isinstance(role, str) or not isinstance(content, str) or role in _OTHERWISE:
        return None
    ours = names.roles.get(role)
    return None if ours is None else Message(ours, content)


def message_of(
    turn: Mapping[str, Any], number: int, names: SetNames, place: RecordLocation
) -> Message:
    """The message of a turn with a role; `number` is what an error calls it."""
    turn = names.turn(turn)
    role = turn.get("role", turn.get("from"))
    plain = "content" in turn or ("from" not in turn and "value" not in turn)
    value = "content" if plain else "value"
    if role is None:
        raise DataError(f"{place}: turn {number} has no role, but {fields_of(turn)}")
    if not isinstance(role, str) or role not in names.roles:
        raise DataError(
            f"{place}: turn {number}: unknown role {role!r}: known are {', '.join(names.roles)};"
            " map it by `roles` in the mixture's entry"
        )
    ours = names.roles[role]
    extras = {name: held for name, held in turn.items() if name not in _KNOWN}
    extras |= _not_taken(turn, ours)
    calls = tuple(_calls(turn, number, place))
    if role == "function_call" and not calls:
        calls, turn = _written_calls(turn, value)
    held = turn.get(value)
    structured = held if ours == "tool" and _is_structured(held) else None
    if (ours == "tool" and not isinstance(held, str | list | None)) or structured is not None:
        try:
            held = json.dumps(held, ensure_ascii=False)
        except TypeError as error:
            raise DataError(f"{place}: turn {number}: its result is no JSON ({error})") from None
    content, parts, thought = _content(held, value, number, place, ours)
    reasoning = _reasoning(extras, number, place) if ours == "assistant" else None
    name = turn.get("name")
    if reasoning and thought and reasoning.strip() != thought.strip():
        raise DataError(f"{place}: turn {number}: its reasoning and its parts of thinking disagree")
    if ours == "assistant" and not reasoning:
        reasoning = thought if thought is not None else reasoning
    if reasoning and f"<think>{reasoning.strip()}</think>" in _squeezed(content):
        reasoning = None  # Some sets write it twice.
    return Message(
        ours,
        content,
        name if isinstance(name, str) else None,
        _supervised(turn, number, place),
        reasoning,
        calls if ours == "assistant" else (),
        parts,
        {"role": role, **extras} if role == "developer" else extras,
        absent=value not in turn,
        structured=structured,
    )


def call_of(call: Any, where: str) -> dict[str, Any]:
    """A tool call in the form that templates read, its arguments an object where they are JSON.

    OpenAI writes arguments as a string of JSON; what is none stays a string. Raises DataError,
    beginning with `where`, for a call without a name.
    """
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: a tool call has no name")
    arguments = function.get("arguments", function.get("parameters", {}))
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        arguments = {}  # OpenAI's models write nothing where a tool is called without any.
    if isinstance(arguments, str):
        try:
            read = read_json(arguments)
        except ValueError:
            read = None
        arguments = ReadArguments(read, arguments) if isinstance(read, dict) else arguments
    made = {name: held for name, held in function.items() if name not in ("parameters", "id")}
    made["arguments"] = arguments
    if "function" in call:
        # As it is given: a template may write the call's keys in their order.
        return {name: made if name == "function" else held for name, held in call.items()}
    return {**({"id": call["id"]} if "id" in call else {}), "type": "function", "function": made}


def _not_taken(turn: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Known keys that this turn's message does not hold: what stands beside the text, a name that
    is none, and a mark to learn a turn that is not the assistant's.
    """
    found = {
        name: turn[name]
        for name, taken in (("value", "content"), ("from", "role"))
        if name in turn and taken in turn and turn[name] != turn[taken]
    }
    if "name" in turn and not isinstance(turn["name"], str):
        found["name"] = turn["name"]
    if role != "assistant":
        found |= {name: turn[name] for name in WEIGHTS if turn.get(name)}
    return found


class ReadArguments(dict[str, Any]):
    """A call's arguments and the string of JSON that holds them, for a template that takes that."""

    def __init__(self, held: Mapping[str, Any], text: str) -> None:
        super().__init__(held)
        self.text = text


def _squeezed(content: str) -> str:
    """The content, without white space inside of its reasoning tags."""
    return re.sub(r"<think>\s*(.*?)\s*</think>", r"<think>\1</think>", content, flags=re.DOTALL)


def _calls(turn: Mapping[str, Any], number: int, place: RecordLocation) -> Iterator[dict[str, Any]]:
    calls = turn.get("tool_calls") or turn.get("function_call") or []
    if isinstance(calls, str):
        try:
            calls = read_json(calls)
        except ValueError as error:
            raise DataError(f"{place}: turn {number}: its calls are not JSON ({error})") from None
    for call in calls if isinstance(calls, list) else [calls]:
        yield call_of(call, f"{place}: turn {number}")


def _written_calls(
    turn: dict[str, Any], value: str
) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """The calls that ShareGPT's function_call writes as JSON; its text stays one if it is none."""
    try:
        read = read_json(turn.get(value, ""))
        calls = tuple(call_of(call, "") for call in (read if isinstance(read, list) else [read]))
    except (ValueError, TypeError, DataError):
        return (), turn
    return calls, {name: held for name, held in turn.items() if name != value}


def _supervised(turn: Mapping[str, Any], number: int, place: RecordLocation) -> bool:
    found = {key: turn[key] for key in WEIGHTS if key in turn}
    for key, held in found.items():
        if held not in (0, 1):
            raise DataError(f"{place}: turn {number}: {key} {held!r} is neither 0 nor 1")
    if len({bool(held) for held in found.values()}) > 1:
        raise DataError(f"{place}: turn {number}: {' and '.join(found)} disagree")
    return all(found.values())


def _reasoning(extras: dict[str, Any], number: int, place: RecordLocation) -> str | None:
    """An answer's reasoning; the keys that say it are taken out of `extras`."""
    found = {key: extras.pop(key) for key in REASONING if key in extras}
    for key, held in found.items():
        if not isinstance(held, str):
            raise DataError(f'{place}: turn {number}: "{key}" is no string')
    if len({held.strip() for held in found.values() if held.strip()}) > 1:
        raise DataError(f"{place}: turn {number}: {' and '.join(found)} disagree")
    return next((held for held in found.values() if held.strip()), next(iter(found.values()), None))


Content = tuple[str, tuple[Mapping[str, Any], ...] | None, str | None]


def _content(content: Any, field: str, number: int, place: RecordLocation, role: str) -> Content:
    """The text, the parts where it is written in parts, and the thinking among them."""
    if content is None:
        if role in ("assistant", "tool"):
            return "", None, None
        raise DataError(f'{place}: turn {number}: "{field}" is null')
    if isinstance(content, str):
        return content, None, None
    if not isinstance(content, list):
        raise DataError(f'{place}: turn {number}: "{field}" is no string')
    return _of_parts(content, number, place)


def _of_parts(content: Sequence[Any], number: int, place: RecordLocation) -> Content:
    texts, thoughts, parts = [], [], []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if kind in THINKING:
            thought = part.get("thinking") or part.get("reasoning") or text
            if isinstance(thought, list):  # Mistral nests the thought's text in parts of its own.
                inner = [held.get("text") if isinstance(held, dict) else held for held in thought]
                thought = "".join(_text(held, str(kind), number, place) for held in inner)
            thoughts.append(_text(thought, str(kind), number, place))
            rest = {key: held for key, held in part.items() if key not in ("reasoning", "text")}
            parts.append({**rest, "type": "thinking", "thinking": thought})
        elif kind in _TEXTS and isinstance(text, str):
            texts.append(text)
            parts.append({**part, "type": "text"})
        else:
            shown = kind if isinstance(part, dict) else part
            raise DataError(f"{place}: turn {number}: a part is no text but {shown!r}")
    # One part of nothing but text is that text, also for a template that reads no parts.
    alone = len(parts) == 1 and parts[0].keys() == {"type", "text"}
    return "".join(texts), None if alone else tuple(parts), "\n\n".join(thoughts) or None


def _is_structured(content: Any) -> bool:
    """Whether a tool's result is an object, or a list that is not one of parts."""
    if isinstance(content, list):
        kinds = [part.get("type") for part in content if isinstance(part, dict)]
        return bool(content) and not any(isinstance(kind, str) and kind in _PARTS for kind in kinds)
    return isinstance(content, dict)


def _text(value: Any, field: str, number: int, place: RecordLocation) -> str:
    if not isinstance(value, str):
        raise DataError(f'{place}: turn {number}: "{field}" is no string')
    return value
