"""The forms of conversations, and what is wrong with those that cannot be used."""

from typing import Any

import pytest

from tests.conversations.talks import PLACE, parse, talk
from trainer.conversations.forms import conversation_of
from trainer.conversations.records import Example
from trainer.conversations.turns import Message
from trainer.errors import DataError

HI, YES = Message("user", "Hi"), Message("assistant", "Yes")


def turn(role: str, content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [turn("user", "Hi"), turn("assistant", "Yes")], "prompt": "Hi", "id": 3},
        {"messages": [turn("system", ""), turn("user", "Hi"), turn("assistant", "Yes")]},
        {"messages": [turn("user", [{"type": "text", "text": "Hi"}]), turn("assistant", "Yes")]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
        {"conversations": [turn("user", "Hi"), turn("assistant", "Yes")], "system": None},
        {"instruction": "Hi", "input": "", "output": "Yes"},
        {"question": "Hi", "answer": "Yes"},
        {"prompt": "Hi", "completion": [turn("assistant", "Yes")]},
    ],
)
def test_all_forms_mean_the_same(record: dict[str, Any]) -> None:
    """Would catch a form that is read otherwise, or whose identity depends on how it is written."""
    found = parse(record)
    assert found.messages == (HI, YES) and not found.plain
    assert found.identity == talk("Hi", "Yes").identity
    assert found.characters == 5


def test_alpaca_joins_instruction_and_input() -> None:
    """Would catch an input or a system prompt that is lost."""
    record = {"instruction": "Add.", "input": "1 and 2", "output": "3", "system": "Be brief."}
    assert [one.content for one in parse(record).messages] == ["Be brief.", "Add.\n\n1 and 2", "3"]


def test_a_prompt_of_messages_is_seen_and_not_learnt() -> None:
    """Would catch answers in a prompt that count as the completion."""
    prompt = [turn("user"), turn("assistant"), turn("user")]
    found = parse({"prompt": prompt, "completion": [turn("assistant", "Yes")]})
    learnt = [one.content for one in found.messages if one.supervised and one.role == "assistant"]
    assert learnt == ["Yes"] and len(found.messages) == 4


def test_two_strings_are_plain() -> None:
    """Would catch bare text that a template renders."""
    assert parse({"prompt": "Hi", "completion": "Yes"}).plain


def test_tools_are_kept_as_text() -> None:
    """Would catch a call or its result that is lost, or two ways of writing a call."""
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": "ü"}'}}
    openai = {
        "messages": [
            turn("user", "Hi"),
            turn("assistant", None, tool_calls=[call, call]),
            turn("tool", "", name="add"),
            turn("tool", "2"),
            turn("assistant", "Yes"),
        ]
    }
    line = '{"name": "add", "arguments": {"a": 1, "b": "ü"}}'
    assert parse(openai).messages == (
        HI,
        Message("assistant", f"{line}\n{line}"),
        Message("tool", "", name="add"),
        Message("tool", "2"),
        YES,
    )
    said = {"messages": [turn("user"), turn("assistant", "So:", tool_calls=[call])]}
    assert parse(said).messages[1].content == f"So:\n{line}"
    shared = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": line},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "Yes"},
        ]
    }
    assert [one.role for one in parse(shared).messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


U, A, S, T = turn("user"), turn("assistant"), turn("system"), turn("tool")


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([U, U, A], "does not alternate: turns 1 and 2 are both the user's"),
        ([S, U, A, A], "does not alternate: turns 3 and 4 are both the assistant's"),
        ([A, U, A], "begins with the assistant (turn 1), not the user"),
        ([S, A], "begins with the assistant (turn 2), not the user"),
        ([U, S, A], "turn 2: a system prompt stands only in front"),
        ([S, S, U, A], "turn 2: a system prompt stands only in front"),
        ([U, T, A], "turn 2: a tool's message follows the user's, and no assistant called it"),
        ([U, A, T, U, A], "turn 4: the user speaks before the assistant answers the tool"),
        ([U], "has no assistant turn"),
        ([S], "has no assistant turn"),
        (
            [U, A, U],
            "ends without an assistant turn: the user's, turn 3, is unanswered",
        ),
        ([U, turn("assistant", " \n")], "turn 2: the answer is empty"),
        ([turn("user", ""), A], "turn 1: the user's turn is empty"),
        ([U, turn("assistant", None)], 'turn 2: "content" is no string'),
        ([U, turn("assistant", 3)], 'turn 2: "content" is no string'),
        (
            [turn("user", [{"type": "image_url"}]), A],
            "turn 1: a part is no text but 'image_url'",
        ),
        (
            [turn("bot"), A],
            "turn 1: unknown role 'bot': known are system, developer, user, human, assistant, gpt,"
            " function_call, tool, observation, function",
        ),
        ([{"text": "x"}, A], "turn 1 has no role, but the fields text"),
        (["x", A], "turn 1 is no object"),
        ([U, turn("assistant", weight=0)], "every answer has weight 0: there is nothing to learn"),
        ([U, turn("assistant", weight=0.5)], "turn 2: weight 0.5 is neither 0 nor 1"),
        ([U, turn("assistant", tool_calls=[{}])], "turn 2: a tool call has no name"),
        ([], '"messages" is empty'),
        ("x", '"messages" is no list of turns'),
    ],
)
def test_what_is_wrong_with_the_turns_is_said(turns: Any, told: str) -> None:
    """Would catch a conversation that trains though it is broken, or one reason for all."""
    with pytest.raises(DataError) as caught:
        parse({"messages": turns})
    assert str(caught.value) == f"talks.jsonl line 7: {told}"


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"instruction": "Hi", "output": 3}, '"output" is no string'),
        ({"instruction": "Hi", "input": [], "output": "x"}, '"input" is no string'),
        ({"messages": [U, A], "tools": "["}, '"tools" is not JSON'),
        ({"messages": [U, A], "tools": 3}, '"tools" is no list of schemas'),
        ({"messages": [U, A], "system": 3}, '"system" is no string'),
        ({"prompt": "Hi", "completion": " "}, "turn 2: the answer is empty"),
        ({"prompt": "Hi", "completion": 3}, '"completion" is no list of turns'),
        (
            {"text": "x", "prompt": "y", "completion": None},
            "unknown form, with the fields text, prompt: known are messages, conversations,"
            " instruction + output, prompt + completion, question + answer",
        ),
        ({}, "unknown form, with no fields: known are messages"),
    ],
)
def test_what_is_wrong_with_the_record_is_said(record: dict[str, Any], told: str) -> None:
    """Would catch a KeyError, and an unknown form that does not say what was found."""
    with pytest.raises(DataError) as caught:
        conversation_of(Example(record, PLACE))
    assert str(caught.value).startswith(f"talks.jsonl line 7: {told}")
