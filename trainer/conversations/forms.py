"""The forms of conversations, told apart by their fields.

| fields | form |
|---|---|
| `messages` | OpenAI: a list of `role` and `content` |
| `conversations` | ShareGPT: a list of `from` and `value`; LIMA: a list of strings in turn |
| `conversation` | WildChat, LMSYS: `role` and `content`; Capybara: `input` and `output` |
| `instruction`, `output` or `response` | Alpaca, Dolly: `input` or `context` follows the instruction behind a blank line, `history` (pairs of question and answer) goes before |
| `prompt`, `completion` | two strings: bare text; or lists of messages, not learnt in the prompt |
| `prompt`, `response` | one user's turn and its answer, as the next ones are |
| `question`, `answer` or `response` | also OpenOrca |
| `query`, `response` | MetaMathQA |
| `query`, `answers` | xLAM: the answers are calls of `tools`, as JSON |
| `problem`, `solution` | NuminaMath and others |
| `input`, `output` | |
| `message_tree_id`, `prompt` | an OASST tree: of each turn's replies the one of the best rank |

The first that fits counts; `columns` of the mixture's entry maps other names. Beside it stand
`system` or `system_prompt` (for those whose turns have none; two strings beside one are a
conversation), `tools` (JSON schemas, or a string of them), `documents` and `chat_template_kwargs`.
`continue_final_message`: true says that the last answer is the beginning of one, as transformers'
argument of that name; its end is not learnt. A field that is null is absent. What nothing reads is
counted, and said once a set; but for an object `about`, which says where an example is from.
"""  # noqa: E501 (a table's row is one line)

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trainer.conversations.columns import (
    CONTINUES,
    SYSTEM_FIELDS,
    TEMPLATE_FIELDS,
    Fields,
    SetNames,
    fields_of,
)
from trainer.conversations.messages import call_of, messages_of
from trainer.conversations.records import Example
from trainer.conversations.template import RESERVED
from trainer.conversations.turns import UNANSWERED, Conversation, Message, ordered
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.errors import DataError
from trainer.parsing import read_json

NAMES = SetNames()
_BESIDE_TURNS = frozenset((*TEMPLATE_FIELDS, "functions"))
OTHER_REPLIES = "tree of which only the replies of the best rank are read"
TAKEN_BACK = "tree cut where all replies were deleted or refused by reviewers"


def conversation_of(example: Example, names: SetNames = NAMES) -> Conversation:
    """Parse an object's conversation. Raises DataError with its location where there is none."""
    fields = names.fields(example)
    for wanted, read in FORMS:
        if all(name in fields for name in wanted):
            conversation, unread = read(fields), fields.unread
            return replace(conversation, unread=unread) if unread else conversation
    known = ", ".join(" + ".join(fields) for fields, _ in FORMS)
    raise DataError(
        f"{fields.place}: unknown form, with {fields_of(fields)}: known are {known}; map others by"
        " `columns` in the mixture's entry"
        + ("; a pair is for stage=preference" if "chosen" in fields else "")
    )


def with_system(fields: Fields, messages: list[Message]) -> list[Message]:
    """The messages behind the record's own system prompt, if it has one and they have none."""
    if messages and messages[0].role == "system":
        return messages
    for field in SYSTEM_FIELDS:
        if field in fields and (text := fields.text(field)).strip():
            return [Message("system", text), *messages]
    return messages


def conversed(fields: Fields, messages: list[Message]) -> Conversation:
    """The conversation of these messages, with all that the record says beside them."""
    messages = with_system(fields, messages)
    found, changes = ordered(messages, fields.place, fields.names.same_role)
    if (goes_on := _goes_on(fields)) and UNANSWERED in changes:
        raise DataError(
            f'{fields.place}: "{CONTINUES}": the last turn is no answer that could go on'
        )
    conversation = beside(fields, found, (*fields.changes, *changes))
    return replace(conversation, goes_on=True) if goes_on else conversation


def beside(
    fields: Fields, messages: tuple[Message, ...] = (), changes: tuple[str, ...] = ()
) -> Conversation:
    """A conversation of these messages with its location and what its template gets beside them."""
    if not fields.has_any(_BESIDE_TURNS):
        return Conversation(messages, fields.place, changes=changes)
    return Conversation(
        messages,
        fields.place,
        changes=changes,
        tools=_tools(fields),
        documents=_objects(fields, "documents", "objects"),
        variables=_variables(fields),
    )


def prompt_and_answer(
    fields: Fields, prompt: str, answer: str
) -> tuple[list[Message], list[Message], bool]:
    """Both fields as messages, of which only the answer's are supervised; a string is one message.

    Third, whether they are bare text: two strings, with nothing beside that a template would get.
    """
    given, said = fields[prompt], fields[answer]
    if isinstance(given, str):
        before = [Message("user", given)]
    else:
        found = messages_of(fields, prompt)
        before = [message._replace(supervised=False) for message in found]
    after = [Message("assistant", said)] if isinstance(said, str) else messages_of(fields, answer)
    return before, after, isinstance(given, str) and isinstance(said, str) and not framed(fields)


def framed(fields: Fields) -> bool:
    """Whether something stands beside the texts that only a conversation has."""
    systems = [fields[name] for name in SYSTEM_FIELDS if name in fields]
    said = any(not isinstance(text, str) or text.strip() for text in systems)
    return said or any(fields[name] for name in (*TEMPLATE_FIELDS, "functions") if name in fields)


def _goes_on(fields: Fields) -> bool:
    """Whether the record says that its last answer is the beginning of one."""
    found = fields.get(CONTINUES, False)
    if not isinstance(found, bool):
        raise DataError(f'{fields.place}: "{CONTINUES}" is neither true nor false')
    return found


def _tools(fields: Fields) -> tuple[Mapping[str, Any], ...]:
    """The schemas of a record's tools, or of its functions, as OpenAI first named them."""
    tools = _objects(fields, "tools", "schemas")
    for number, tool in enumerate(tools, start=1):
        if not isinstance(tool.get("function", tool), dict):
            raise DataError(
                f'{fields.place}: "tools": the function of schema {number} is no object'
            )
    functions = () if tools else _objects(fields, "functions", "schemas")
    return tools or tuple({"type": "function", "function": held} for held in functions)


def _objects(fields: Fields, field: str, what: str) -> tuple[Mapping[str, Any], ...]:
    """A list of objects, or a string of JSON that holds one."""
    found = fields.get(field) or []
    if isinstance(found, list) and found and all(isinstance(held, str) for held in found):
        found = f"[{', '.join(found)}]"
    if isinstance(found, str):
        try:
            found = read_json(found) if found.strip() else []
        except ValueError as error:
            raise DataError(f'{fields.place}: "{field}" is not JSON ({error})') from None
    if not isinstance(found, list) or not all(isinstance(held, dict) for held in found):
        raise DataError(f'{fields.place}: "{field}" is no list of {what}')
    return tuple(found)


def _variables(fields: Fields) -> Mapping[str, Any]:
    """What a record gives its template by name."""
    field = "chat_template_kwargs"
    found = fields.get(field) or {}
    if isinstance(found, str):
        try:
            found = read_json(found)
        except ValueError as error:
            raise DataError(f'{fields.place}: "{field}" is not JSON ({error})') from None
    if not isinstance(found, dict):
        raise DataError(f'{fields.place}: "{field}" is no object')
    if reserved := RESERVED & found.keys():
        raise DataError(
            f'{fields.place}: "{field}" sets {", ".join(sorted(reserved))}, which the conversation'
            " itself gives"
        )
    return dict(found)


def _turns(field: str) -> Callable[[Fields], Conversation]:
    def read(fields: Fields) -> Conversation:
        return conversed(fields, messages_of(fields, field))

    return read


def _instruction(answer: str) -> Callable[[Fields], Conversation]:
    def read(fields: Fields) -> Conversation:
        said = Message("assistant", fields.text(answer))
        return conversed(fields, [*instructed(fields), said])

    return read


def instructed(fields: Fields) -> list[Message]:
    """Alpaca's history, then its instruction with the input or context behind a blank line."""
    parts = [fields.text("instruction")]
    parts += [fields.text(more) for more in ("input", "context") if more in fields]
    question = "\n\n".join(part for part in parts if part.strip())
    return [*_history(fields), Message("user", question)]


def _history(fields: Fields) -> list[Message]:
    """Alpaca's earlier exchanges, pairs of question and answer, which are learnt too."""
    pairs = fields.get("history") or []
    if not isinstance(pairs, list):
        raise DataError(f'{fields.place}: "history" is no list of pairs')
    found = []
    for number, pair in enumerate(pairs, start=1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_string, pair))):
            raise DataError(
                f'{fields.place}: "history", pair {number}: is not a question and its answer'
            )
        found += _exchange(*pair)
    return found


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _exchange(question: str, answer: str) -> list[Message]:
    return [Message("user", question), Message("assistant", answer)]


def _completion(fields: Fields) -> Conversation:
    before, after, plain = prompt_and_answer(fields, "prompt", "completion")
    if not plain:
        return conversed(fields, [*before, *after])
    messages, _ = ordered([*before, *after], fields.place)
    return Conversation(messages, fields.place, plain=True, goes_on=_goes_on(fields))


def _asked(question: str, answer: str) -> Callable[[Fields], Conversation]:
    def read(fields: Fields) -> Conversation:
        return conversed(fields, _exchange(fields.text(question), fields.text(answer)))

    return read


def _called(fields: Fields) -> Conversation:
    """An answer that is calls of tools, as a string of JSON or as a list."""
    calls = fields["answers"]
    if isinstance(calls, str):
        try:
            calls = read_json(calls)
        except ValueError as error:
            raise DataError(f'{fields.place}: "answers" is not JSON ({error})') from None
    if not isinstance(calls, list) or not calls:
        raise DataError(f'{fields.place}: "answers" is no list of tool calls')
    made = tuple(call_of(call, str(fields.place)) for call in calls)
    answer = Message("assistant", "", calls=made, absent=True)
    return conversed(fields, [Message("user", fields.text("query")), answer])


def _tree(fields: Fields) -> Conversation:
    """The path from an OASST tree's root that takes the best reply at each turn."""
    node, messages = fields["prompt"], list[Message]()
    fields["message_tree_id"]  # Read, and so not among what nothing reads.
    others, changes = 0, list[str]()
    if isinstance(node, dict) and not _stands(node):
        raise DataError(
            f"{fields.place}: the tree's prompt was deleted or refused by reviewers: leave it out"
        )
    while node is not None:
        messages.append(_node(node, len(messages) + 1, fields.names, fields.place))
        replies = node.get("replies") or []
        # Replies that were taken back, or that reviewers refused, are no answers.
        standing = [one for one in replies if not isinstance(one, dict) or _stands(one)]
        if replies and not standing:
            changes.append(TAKEN_BACK)
        replies = standing
        others += max(len(replies) - 1, 0)
        # Replies that nobody has ranked come last, in their order.
        ranks = [one.get("rank") if isinstance(one, dict) else None for one in replies]
        ranks = [rank if isinstance(rank, int | float) else None for rank in ranks]
        best = min(range(len(replies)), key=lambda n: (ranks[n] is None, ranks[n]), default=None)
        node = None if best is None else replies[best]
    if changes and all(one.role != "assistant" for one in messages):
        raise DataError(
            f"{fields.place}: all replies to the tree's prompt were deleted or refused by"
            " reviewers: leave it out"
        )
    conversation = conversed(fields, messages)
    changes += [OTHER_REPLIES] if others else []
    return replace(conversation, changes=(*conversation.changes, *changes))


def _stands(reply: Mapping[str, Any]) -> bool:
    return not reply.get("deleted") and reply.get("review_result") is not False


def _node(node: Any, number: int, names: SetNames, place: RecordLocation) -> Message:
    if not isinstance(node, dict) or not isinstance(node.get("text"), str):
        raise DataError(f"{place}: turn {number} of the tree has no text")
    role = names.roles.get(str(node.get("role")))
    if role is None:
        raise DataError(f"{place}: turn {number}: unknown role {node.get('role')!r}")
    return Message(role, node["text"])


Form = tuple[tuple[str, ...], Callable[[Fields], Conversation]]
FORMS: tuple[Form, ...] = (
    (("messages",), _turns("messages")),
    (("conversations",), _turns("conversations")),
    (("conversation",), _turns("conversation")),
    (("instruction", "output"), _instruction("output")),
    (("instruction", "response"), _instruction("response")),
    (("prompt", "completion"), _completion),
    (("prompt", "response"), _asked("prompt", "response")),
    (("question", "answer"), _asked("question", "answer")),
    (("question", "response"), _asked("question", "response")),
    (("query", "response"), _asked("query", "response")),
    (("query", "answers"), _called),
    (("problem", "solution"), _asked("problem", "solution")),
    (("input", "output"), _asked("input", "output")),
    (("message_tree_id", "prompt"), _tree),
)
"""The fields of each form, and how it is read; the first whose fields are there counts."""
BESIDE = (
    *SYSTEM_FIELDS,
    *TEMPLATE_FIELDS,
    CONTINUES,
    "input",
    "context",
    "history",
    "role",
    "content",
)
"""Further names of ours, of fields beside a form's own and of turns' keys."""
