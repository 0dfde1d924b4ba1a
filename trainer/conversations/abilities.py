"""What a chat template reads of a conversation, found by trying it out, each thing once."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from trainer.conversations.exchange import Contradiction
from trainer.conversations.messages import ReadArguments
from trainer.conversations.turns import REASONING, Message

Attempt = Callable[..., str]
"""Renders turns, with add_generation_prompt and what stands beside them; "" where that fails."""
_SIGN = "zqxjk"
"""A word that no template writes by itself."""
REASONING_TEXT = "reasoning written into the answer's text"
REASONING_LEFT = "reasoning of answers that are not learnt left out"
CALLS_TEXT = "tool calls written as a line of JSON"
PARTS_TEXT = "content parts joined to one text"
RESULTS_TEXT = "tool results written as JSON"


class Abilities:
    """What a template reads, and how a message is given to it.

    `attempt` renders as the template does; `text` is the template's own text.
    """

    def __init__(self, attempt: Attempt, text: str) -> None:
        self._attempt, self._text = attempt, text
        self._parted: dict[tuple[str, str], bool] = {}

    def turn(self, message: Message, flattened: list[str], learnt: bool) -> dict[str, Any]:
        """The turn that the template gets of a message.

        What it does not read becomes text, whose name is added to `flattened`; what it reads is
        named and written as transformers' apply_chat_template passes it on. Reasoning becomes text
        only in the answer that is being `learnt`: no server shows that of earlier ones. Raises
        Contradiction for reasoning that the template would write behind the calls that follow it,
        or that it would lose.
        """
        extras = dict(message.extras)
        role = extras.pop("role", message.role)
        turn: dict[str, Any] = {"role": role if role in self._text else message.role, **extras}
        if message.name is not None:
            turn["name"] = message.name
        content = message.content
        reasoning = message.reasoning
        if reasoning is not None and not self._reads_thinking(message):
            if self._reads_reasoning(message):
                turn |= dict.fromkeys(REASONING, reasoning)
            elif self._reads_parts("assistant", "thinking") and reasoning.strip():
                thought = {"type": "thinking", "thinking": reasoning}
                said = message.parts or ({"type": "text", "text": content},) * bool(content)
                message = message._replace(parts=(thought, *said))
            elif learnt and reasoning.strip():
                if message.calls and self._said_behind_calls:
                    raise Contradiction(
                        "the chat template reads no reasoning, and writes what an answer says"
                        " behind its calls: take the reasoning out, or name another template"
                    )
                content = f"<think>\n{reasoning.strip()}\n</think>\n\n{content}"
                flattened.append(REASONING_TEXT)
        absent = message.absent
        if message.calls and not self.calls:
            lines = [_written(call) for call in message.calls]
            content, absent = "\n".join([content, *lines] if content else lines), False
            flattened.append(CALLS_TEXT)
        elif message.calls:
            turn["tool_calls"] = [self._call(call) for call in message.calls]
            if not content.strip() and not self._reads_thinking(message):
                return turn | self._no_content(absent)
        if absent and not content and not message.parts:
            return turn
        return turn | {"content": self._content(message, content, flattened)}

    def reasoning_is_read(self, messages: Sequence[Message]) -> bool:
        """Whether the reasoning of answers that are only seen is read, or there is none."""
        given = any(one.reasoning and not one.supervised for one in messages)
        return not given or all(
            self._reads_parts("assistant", "thinking") or self._reads_reasoning(one)
            for one in messages
            if one.reasoning and not one.supervised
        )

    @cached_property
    def parts_alone(self) -> bool:
        """Whether a content must be a list of parts."""
        text = self._attempt([{"role": "user", "content": _SIGN}], True)
        return _SIGN not in text and self.parts

    @cached_property
    def parts(self) -> bool:
        """Whether a question may be a list of parts."""
        return self._reads_parts("user", "text")

    def _reads_parts(self, role: str, kind: str) -> bool:
        """Whether a content of this role may be a list of parts, the first one of this kind."""
        if (role, kind) not in self._parted:
            parts = [{"type": kind, kind: _SIGN}, {"type": "text", "text": "second"}]
            text = self._shown(role, parts)
            as_it_is = f"'{kind}': '{_SIGN}'", f'"{kind}": "{_SIGN}"'
            self._parted[role, kind] = (
                _SIGN in text and "second" in text and not any(one in text for one in as_it_is)
            )
        return self._parted[role, kind]

    def _shown(self, role: str, content: Any) -> str:
        """What is written where a turn of this role has this content."""
        turn = {"role": role, "content": content}
        if role == "user":
            return self._attempt([turn], True)
        if role == "system":
            return self._attempt([turn, self._question], True)
        if role == "assistant":
            return self._attempt([self._question, turn], False)
        said = turn | {"tool_call_id": "abcdefghi", "name": "tool"}
        return self._attempt([self._question, self._calling, said], True, tools=[_schema("tool")])

    @cached_property
    def system(self) -> bool:
        """Whether a system prompt is written."""
        return _SIGN in self._attempt([self._plain("system", _SIGN), self._question], True)

    @cached_property
    def reasoning(self) -> bool:
        """Whether an answer's reasoning is read from a key of its own."""
        answer = self._plain("assistant", "An answer.")
        answer |= dict.fromkeys(REASONING, _SIGN)
        before = [self._question, self._plain("assistant", "Another one."), self._question]
        # Some show the reasoning of the newest answer alone, and only behind another one.
        return any(
            _SIGN in self._attempt([*turns, answer], False) for turns in ([self._question], before)
        )

    @cached_property
    def reasoning_before_calls(self) -> bool:
        """Whether an answer's reasoning is read where the answer calls tools."""
        answer = self._calling | dict.fromkeys(REASONING, _SIGN)
        return _SIGN in self._attempt([self._question, answer], False, tools=[_schema("tool")])

    def _reads_reasoning(self, message: Message) -> bool:
        return self.reasoning_before_calls if message.calls and self.calls else self.reasoning

    def _reads_thinking(self, message: Message) -> bool:
        """Whether the template reads a message's parts of thinking as they are."""
        return bool(message.thinking) and self._reads_parts(message.role, "thinking")

    @cached_property
    def _said_behind_calls(self) -> bool:
        """Whether what an answer says is written behind its calls."""
        answer = self._calling | self._plain("assistant", _SIGN)
        text = self._attempt([self._question, answer], False, tools=[_schema("tool")])
        return 0 <= text.rfind("zqcall") < text.rfind(_SIGN)

    def _reads_results(self, kind: type) -> bool:
        """Whether a tool's result may be an object, or a list of them.

        Python's spelling of one is nobody's format.
        """
        if ("tool", kind.__name__) not in self._parted:
            result = {"zqkey": _SIGN, "zqnumber": 40961}
            text = self._shown("tool", [result] if kind is list else result)
            whole = all(one in text for one in ("zqkey", _SIGN, "zqnumber", "40961"))
            self._parted["tool", kind.__name__] = whole and "'zqkey': '" not in text
        return self._parted["tool", kind.__name__]

    @cached_property
    def tools(self) -> bool:
        """Whether schemas of tools are written."""
        return _SIGN in self._attempt([self._question], True, tools=[_schema(_SIGN)])

    @cached_property
    def results(self) -> bool:
        """Whether what a tool says is written; true too where that cannot be tried out."""
        text = self._shown("tool", self._plain("tool", _SIGN)["content"])
        return _SIGN in text or not text

    @property
    def _calling(self) -> dict[str, Any]:
        """An answer that calls a tool, as far as the template reads that."""
        if not self.calls:
            return self._plain("assistant", "A call.")
        function = {"name": "tool", "arguments": {"zqcall": "value"}}
        calls = {"role": "assistant", "tool_calls": [self._call(_numbered(function))]}
        return calls | self._no_content(absent=True)

    @cached_property
    def calls(self) -> bool:
        """Whether an answer's calls of tools are read."""
        return self._form is not None

    @cached_property
    def _form(self) -> tuple[str, bool] | None:
        """How calls are written: what an answer without text has for content ("absent", "empty" or
        "null"), and whether arguments are objects; None where no way shows them.
        """
        for as_object in (True, False):
            for content in ("absent", "empty", "null"):
                arguments: Any = {_SIGN: "value"}
                call = {"name": "tool", "arguments": arguments}
                if not as_object:
                    call["arguments"] = json.dumps(arguments)
                turn = {"role": "assistant", "tool_calls": [_numbered(call)], **_NONE[content]}
                text = self._attempt([self._question, turn], False, tools=[_schema("tool")])
                # Python's own spelling of an object is nobody's format of a call.
                if _SIGN in text and f"{{'{_SIGN}'" not in text:
                    return content, as_object
        return None

    def _no_content(self, absent: bool) -> dict[str, Any]:
        """What stands for the text of an answer that only calls."""
        assert self._form is not None
        needed = self._form[0]
        if needed == "absent":
            return {} if absent else {"content": ""}
        return dict(_NONE[needed])

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        assert self._form is not None
        function = dict(call["function"])
        arguments = function["arguments"]
        if not self._form[1] and not isinstance(arguments, str):
            read = isinstance(arguments, ReadArguments)
            function["arguments"] = (
                arguments.text if read else json.dumps(arguments, ensure_ascii=False)
            )
        return {**call, "function": function}

    def _content(self, message: Message, content: str, flattened: list[str]) -> Any:
        if message.structured is not None:
            if self._reads_results(type(message.structured)):
                return message.structured
            flattened.append(RESULTS_TEXT)
        parts = message.parts
        if thinking := message.thinking:
            assert parts is not None
            if self._reads_parts(message.role, "thinking"):
                return [dict(part) for part in parts]
            if message.role != "assistant":
                raise Contradiction(
                    f"the {message.role}'s turn has a part of thinking, which the chat template"
                    " does not read: take it out, or write it into the text"
                )
            parts = tuple(part for part in parts if part not in thinking)
        alone = parts is not None and len(parts) == 1 and parts[0].keys() == {"type", "text"}
        if parts is None or alone or content != message.content:
            return [{"type": "text", "text": content}] if self.parts_alone else content
        if self._reads_parts(message.role, "text"):
            return [dict(part) for part in parts]
        if len(parts) > 1:
            flattened.append(PARTS_TEXT)
        return content

    def _plain(self, role: str, text: str) -> dict[str, Any]:
        content = [{"type": "text", "text": text}] if self.parts_alone else text
        return {"role": role, "content": content}

    @property
    def _question(self) -> dict[str, Any]:
        return self._plain("user", "A question.")


_NONE: Mapping[str, Mapping[str, Any]] = {
    "absent": {},
    "empty": {"content": ""},
    "null": {"content": None},
}


def _schema(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}, "required": []}
    about = {"name": name, "description": "A tool.", "parameters": parameters}
    return {"type": "function", "function": about}


def _numbered(function: Mapping[str, Any]) -> dict[str, Any]:
    # Mistral's templates take ids of nine letters alone.
    return {"id": "abcdefghi", "type": "function", "function": dict(function)}


def _written(call: Mapping[str, Any]) -> str:
    function = call["function"]
    held = {"name": function["name"], "arguments": function["arguments"]}
    return json.dumps(held, ensure_ascii=False)
