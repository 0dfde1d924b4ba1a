"""The forms of conversations, and what is wrong with those that cannot be used."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tests.conversations.talks import PLACE, parse, talk
from trainer.conversations.columns import ROLES, SetNames, set_names
from trainer.conversations.forms import TAKEN_BACK, conversation_of
from trainer.conversations.pairs import FIELDS
from trainer.conversations.records import Example
from trainer.conversations.turns import GREETING, UNANSWERED, Message
from trainer.errors import DataError, RecipeError
from trainer.recipe import ConversationsSection, MixtureSource

HI, YES = Message("user", "Hi"), Message("assistant", "Yes")


def turn(role: str, content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [turn("user", "Hi"), turn("assistant", "Yes")], "prompt": "Hi", "id": 3},
        {"conversations": [turn("system", ""), turn("user", "Hi"), turn("assistant", "Yes")]},
        {"messages": [turn("user", [{"type": "text", "text": "Hi"}]), turn("assistant", "Yes")]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
        {"conversations": [turn("user", "Hi"), turn("assistant", "Yes")], "system": None},
        {"instruction": "Hi", "input": "", "output": "Yes"},
        {"question": "Hi", "answer": "Yes"},
        {"prompt": "Hi", "completion": [turn("assistant", "Yes")]},
        {"instruction": "Hi", "context": "", "response": "Yes", "category": "open_qa"},
        {"system_prompt": "", "question": "Hi", "response": "Yes", "id": "1"},
        {"query": "Hi", "response": "Yes", "type": "x"},
        {"prompt": "Hi", "response": "Yes"},
        {"input": "Hi", "output": "Yes"},
        {"problem": "Hi", "solution": "Yes"},
        {"conversation": [{"input": "Hi", "output": "Yes"}], "source": "x"},
        {"conversation": [turn("user", "Hi"), turn("assistant", "Yes")], "model": "x"},
        {"conversations": ["Hi", "Yes"], "source": "x"},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "chatgpt", "value": "Yes"}]},
        {
            "message_tree_id": "t",
            "prompt": {
                "text": "Hi",
                "role": "prompter",
                "replies": [
                    {"text": "No", "role": "assistant", "rank": 1, "replies": []},
                    {"text": "Yes", "role": "assistant", "rank": 0, "replies": []},
                ],
            },
        },
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


def test_every_way_to_write_a_call_means_the_same() -> None:
    """Would catch a call or result that is lost, and arguments that depend on how they stand."""
    made = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": None}}}
    line = '{"name": "add", "arguments": {"a": 1, "b": null}}'
    text = {"name": "add", "arguments": '{"a": 1, "b": null}'}
    for calling in (
        turn("assistant", None, tool_calls=[made]),
        turn("assistant", "", tool_calls=[{"type": "function", "function": text}]),
        turn("assistant", "", tool_calls=[text]),
        turn("assistant", None, function_call=text),
        {"from": "function_call", "value": line},
    ):
        turns = [
            turn("user", "Hi"),
            calling,
            turn("tool", "2", name="add"),
            turn("assistant", "Yes"),
        ]
        _, called, result, _ = parse({"messages": turns}).messages
        assert (called.content, called.calls) == ("", (made,))
        assert result == Message("tool", "2", name="add")
    named = parse(
        {"messages": [turn("user"), turn("assistant", "So:", tool_calls=[text | {"id": "c"}])]}
    )
    assert named.messages[1].content == "So:" and named.messages[1].calls == (made | {"id": "c"},)
    (_, answer) = parse({"query": "Hi", "answers": f"[{line}]", "tools": "[]"}).messages
    assert answer.calls == (made,)


def test_reasoning_is_read_from_each_of_its_keys() -> None:
    """Would catch thoughts that are lost, or that are learnt as what is said."""
    thinking = {"type": "thinking", "thinking": "Hm."}
    for answer in (
        turn("assistant", "Yes", reasoning_content="Hm."),
        turn("assistant", "Yes", thinking="Hm."),
        turn("assistant", "Yes", reasoning="Hm."),
        turn("assistant", [thinking, {"type": "text", "text": "Yes"}]),
    ):
        found = parse({"messages": [turn("user", "Hi"), answer]}).messages[1]
        assert found._replace(parts=None) == Message("assistant", "Yes", reasoning="Hm.")
    both = turn("assistant", [thinking, {"type": "text", "text": "Yes"}], reasoning="No.")
    with pytest.raises(DataError, match="turn 2: its reasoning and its parts of thinking disagree"):
        parse({"messages": [turn("user", "Hi"), both]})


def reply(text: str, role: str, *replies: Any, **more: Any) -> dict[str, Any]:
    return {"text": text, "role": role, "replies": list(replies), **more}


def test_replies_that_were_taken_back_end_a_tree() -> None:
    """Would catch spam that its reviewers deleted learnt as an answer."""
    deleted = reply("SPAM", "assistant", deleted=True)
    refused = reply("Bad", "assistant", review_result=False, rank=0)
    good = reply("Yes", "assistant", reply("So?", "prompter", deleted, refused), rank=1)
    tree = {"message_tree_id": "t", "prompt": reply("Hi", "prompter", deleted, good)}
    found = parse(tree)
    assert found.messages == (HI, YES) and found.changes == (UNANSWERED, TAKEN_BACK)
    for prompt, told in (
        (
            reply("Hi", "prompter", deleted, refused),
            "all replies to the tree's prompt were deleted",
        ),
        (reply("Hi", "prompter", good, deleted=True), "the tree's prompt was deleted or refused"),
    ):
        with pytest.raises(DataError, match=f"line 7: {told}"):
            parse({"message_tree_id": "t", "prompt": prompt})


def test_a_call_without_arguments_has_none() -> None:
    """Would catch an empty string written where a prompt asks for an object."""
    for arguments in ("", " ", None, "{}", {}):
        call = {"function": {"name": "now", "arguments": arguments}}
        turns = [turn("user"), turn("assistant", None, tool_calls=[call])]
        assert parse({"messages": turns}).messages[1].calls[0]["function"]["arguments"] == {}


def test_a_result_that_is_no_text_is_kept_as_it_is() -> None:
    """Would catch a tool's object refused, or taken for parts of a text."""
    call = {"function": {"name": "tide", "arguments": {}}}
    part = {"type": "text", "text": "x"}
    for result, content, structured in (
        ({"height": 1.8}, '{"height": 1.8}', True),
        ([{"height": 1.8}], '[{"height": 1.8}]', True),
        (1.8, "1.8", False),
        (True, "true", False),
        ([], "", False),
        ([part], "x", False),
    ):
        turns = [turn("user"), turn("assistant", None, tool_calls=[call]), turn("tool", result), A]
        said = parse({"messages": turns}).messages[2]
        assert (said.content, said.structured) == (content, result if structured else None)


def test_objects_of_a_strange_kind_are_refused_or_read_and_never_a_traceback() -> None:
    """Would catch a function that is a string, a rank that is one, or a null learnt as a word."""
    hi = [turn("user", "Hi"), turn("assistant", "Yes")]
    for function in ("tide", None, ["tide"]):
        tools = [{"type": "function", "function": function}]
        with pytest.raises(DataError, match='"tools": the function of schema 1 is no object'):
            parse({"messages": hi, "tools": tools})
    yes = {"type": "text", "text": "Yes"}
    inner = [
        turn("user", "Hi"),
        turn("assistant", [{"type": "thinking", "thinking": ["Hm."]}, yes]),
    ]
    assert parse({"messages": inner}).messages[1].reasoning == "Hm."
    for thought in ([{"type": "text", "text": None}], [3], None):
        part = {"type": "thinking", "thinking": thought}
        with pytest.raises(DataError, match='turn 2: "thinking" is no string'):
            parse({"messages": [turn("user", "Hi"), turn("assistant", [part, yes])]})
    ranked = [reply("No", "assistant", rank="0"), reply("Yes", "assistant", rank=1)]
    tree = {"message_tree_id": "t", "prompt": reply("Hi", "prompter", *ranked)}
    assert parse(tree).messages == (HI, YES)
    place = [{"type": "Feature", "geometry": None}]
    call = {"function": {"name": "where", "arguments": {}}}
    turns = [
        turn("user"),
        turn("assistant", None, tool_calls=json.dumps([call])),
        turn("tool", place),
    ]
    found = parse({"messages": [*turns, A]}).messages
    assert found[1].calls[0]["function"]["name"] == "where" and found[2].structured == place
    for held in ({"day": date(2026, 1, 2)}, Decimal("1.8"), [b"x"]):
        with pytest.raises(DataError, match="turn 3: its result is no JSON"):
            parse({"messages": [*turns[:2], turn("tool", held), A]})
    kinds = [{"type": ["a"]}]
    assert parse({"messages": [*turns[:2], turn("tool", kinds), A]}).messages[2].structured == kinds
    with pytest.raises(DataError, match="turn 2: its calls are not JSON"):
        parse({"messages": [turn("user"), turn("assistant", None, tool_calls="tide()")]})


def test_keys_that_another_key_hides_are_said() -> None:
    """Would catch a name, a text or a mark to learn that is passed over in silence."""
    turns = [
        turn("user", "Hi", value="Ho", train=True, name=3),
        turn("assistant", "Yes", train=True, **{"from": "gpt"}),
    ]
    user, answer = parse({"messages": turns}).messages
    assert dict(user.extras) == {"value": "Ho", "train": True, "name": 3}
    assert dict(answer.extras) == {"from": "gpt"}
    names = SetNames(columns={"content": "text"})
    shadowed = [turn("user", "old", text="Hi"), turn("assistant", None, text="Yes")]
    user, answer = conversation_of(Example({"messages": shadowed}, PLACE), names).messages
    assert user.content == "Hi" and dict(user.extras) == {"content beside text": "old"}
    assert answer == Message("assistant", "Yes")


def test_what_parquet_holds_beside_text_has_an_identity() -> None:
    """Would catch a decimal or the bytes of an image that end a build with a traceback."""
    held = {"price": Decimal("1.5"), "image": b"\x89PNG", "day": date(2026, 1, 2)}
    one, same, other = (
        parse({"messages": [turn("user", "Hi", **more), turn("assistant", "Yes")]}).identity
        for more in (held, dict(reversed(held.items())), held | {"price": Decimal("1.6")})
    )
    assert one == same != other


@pytest.mark.parametrize("key", ["weight", "train", "training", "trainable", "loss_mask"])
def test_a_turn_says_whether_it_is_learnt(key: str) -> None:
    """Would catch an answer that its set marks as wrong, and is trained."""
    turns = [U, turn("assistant", **{key: 0}), U, turn("assistant", **{key: True})]
    learnt = [one.supervised for one in parse({"messages": turns}).messages[1::2]]
    assert learnt == [False, True]
    turns = [U, turn("assistant", **{key: True, "weight": 0})]
    told = "nothing to learn" if key == "weight" else f"turn 2: weight and {key} disagree"
    with pytest.raises(DataError, match=told):
        parse({"messages": turns})


def test_a_system_prompt_is_found_wherever_it_stands() -> None:
    """Would catch a column that changes every answer and is read over."""
    asked = [turn("user", "Hi"), turn("assistant", "Yes")]
    for record in (
        {"messages": asked, "system": "Be brief."},
        {"conversations": asked, "system_prompt": "Be brief."},
        {"prompt": "Hi", "completion": "Yes", "system": "Be brief."},
        {"system_prompt": "Be brief.", "question": "Hi", "response": "Yes"},
    ):
        found = parse(record)
        assert found.messages == (Message("system", "Be brief."), HI, YES) and not found.plain
    assert parse({"messages": [turn("system", ""), *asked]}).messages[0] == Message("system", "")


def test_alpacas_history_goes_before() -> None:
    """Would catch earlier exchanges that are lost."""
    record = {"instruction": "And?", "output": "4", "history": [["1 + 1?", "2"], ["1 + 2?", "3"]]}
    assert [one.content for one in parse(record).messages] == [
        "1 + 1?",
        "2",
        "1 + 2?",
        "3",
        "And?",
        "4",
    ]


def test_greetings_and_unanswered_turns_are_taken_as_others_take_them() -> None:
    """Would catch an answer that nobody asked for trained, or a whole conversation thrown away."""
    found = parse(
        {
            "messages": [
                turn("assistant", "Welcome!"),
                turn("user", "Hi"),
                turn("assistant", "Yes"),
                U,
            ]
        }
    )
    assert [(one.content, one.supervised) for one in found.messages] == [
        ("Welcome!", False),
        ("Hi", True),
        ("Yes", True),
    ]
    assert found.changes == (UNANSWERED, GREETING)


def test_turns_of_one_role_are_joined_where_that_is_asked_for() -> None:
    """Would catch a turn lost, or one learnt that its set says is wrong."""
    turns = [
        turn("user", "Hi"),
        turn("user", "There?"),
        turn("assistant", "Yes"),
        turn("assistant", "No", weight=0),
        U,
        A,
    ]
    found = conversation_of(Example({"messages": turns}, PLACE), SetNames(same_role="join"))
    assert [one.content for one in found.messages] == ["Hi\n\nThere?", "Yes\n\nNo", "x", "x"]
    assert [one.supervised for one in found.messages[1::2]] == [False, True]
    systems = {"messages": [turn("system", "Be brief."), turn("developer", "Be kind."), U, A]}
    found = conversation_of(Example(systems, PLACE), SetNames(same_role="join"))
    assert [one.content for one in found.messages] == ["Be brief.\n\nBe kind.", "x", "x"]
    named = {"messages": [turn("user", name="Ada"), turn("user", name="Bo"), A]}
    with pytest.raises(DataError, match="turns 1 and 2 have the names Ada and Bo, and joined"):
        conversation_of(Example(named, PLACE), SetNames(same_role="join"))


def test_columns_and_roles_map() -> None:
    """Would catch a set with its own names that is refused, or a column that is not the named."""
    section, known = ConversationsSection(), FIELDS
    entry = MixtureSource(
        corpus="x.jsonl",
        columns={"messages": "talk", "role": "who", "content": "says"},
        roles={"client": "user"},
    )
    names = set_names(entry, section, known)
    talked = {"talk": [{"who": "client", "says": "Hi"}, {"who": "bot", "says": "Yes"}], "day": 3}
    found = conversation_of(Example(talked, PLACE), names)
    assert found.messages == (HI, YES) and found.unread == ("day",)
    swapped = set_names(
        MixtureSource(corpus="x.jsonl", columns={"question": "answer", "answer": "question"}),
        section,
        known,
    )
    assert conversation_of(
        Example({"question": "Yes", "answer": "Hi"}, PLACE), swapped
    ).messages == (HI, YES)
    with pytest.raises(RecipeError, match=r"ask is none of our names.*; write question: ask"):
        set_names(MixtureSource(corpus="x.jsonl", columns={"ask": "question"}), section, known)
    with pytest.raises(RecipeError, match=r"client is none of our roles.*; write client: user"):
        set_names(MixtureSource(corpus="x.jsonl", roles={"user": "client"}), section, known)


def test_capybaras_pairs_keep_their_further_keys() -> None:
    """Would catch a weight that is read over because the turn is written as a pair."""
    pairs = [{"input": "Hi", "output": "No", "weight": 0}, {"input": "So?", "output": "Yes"}]
    found = parse({"conversation": pairs}).messages
    assert [one.supervised for one in found[1::2]] == [False, True]


def test_a_column_may_be_null_or_absent_in_some_records() -> None:
    """Would catch a Parquet set with an optional column refused at its first null."""
    entry = MixtureSource(
        corpus="x", columns={"system": "persona", "question": "ask", "answer": "a"}
    )
    names = set_names(entry, ConversationsSection(), FIELDS)
    for record in ({"ask": "Hi", "a": "Yes"}, {"ask": "Hi", "a": "Yes", "persona": None}):
        assert conversation_of(Example(record, PLACE), names).messages == (HI, YES)


def test_what_nothing_reads_is_known() -> None:
    """Would catch a key that changes what is meant, and is read over in silence."""
    record = {"question": "Hi", "answer": "Yes", "context": "Of the sea.", "level": 3, "none": None}
    assert parse(record).unread == ("context", "level")


JOIN = ": join them, or set conversations.same_role=join"
U, A, S, T = turn("user"), turn("assistant"), turn("system"), turn("tool")


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([U, U, A], "does not alternate: turns 1 and 2 are both the user's" + JOIN),
        ([S, U, A, A], "does not alternate: turns 3 and 4 are both the assistant's" + JOIN),
        ([T, U, A], "begins with the tool (turn 1), not the user"),
        ([S, A], "only a greeting: there is nothing to learn"),
        ([U, S, A], "turn 2: a system prompt stands only in front"),
        ([S, S, U, A], "does not alternate: turns 1 and 2 are both the system's" + JOIN),
        ([U, A, S, U, A], "turn 3: a system prompt stands only in front"),
        ([U, T, A], "turn 2: a tool's message follows the user's, and no assistant called it"),
        ([U, A, T, U, A], "turn 4: the user speaks before the assistant answers the tool"),
        ([U], "has no assistant turn"),
        ([S], "has no assistant turn"),
        ([U, turn("assistant", " \n")], "turn 2: the answer is empty"),
        ([turn("user", ""), A], "turn 1: the user's turn is empty"),
        ([turn("user", None), A], 'turn 1: "content" is null'),
        ([U, turn("assistant", None)], "turn 2: the answer is empty"),
        (
            [U, turn("assistant", None, refusal="I cannot.")],
            "turn 2: the answer is empty, beside refusal, which is no answer",
        ),
        ([U, turn("assistant", 3)], 'turn 2: "content" is no string'),
        (
            [turn("user", [{"type": "image_url"}]), A],
            "turn 1: a part is no text but 'image_url'",
        ),
        (
            [turn("narrator"), A],
            f"turn 1: unknown role 'narrator': known are {', '.join(ROLES)}; map it by `roles` in"
            " the mixture's entry",
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
            " conversation, instruction + output",
        ),
        ({}, "unknown form, with no fields: known are messages"),
    ],
)
def test_what_is_wrong_with_the_record_is_said(record: dict[str, Any], told: str) -> None:
    """Would catch a KeyError, and an unknown form that does not say what was found."""
    with pytest.raises(DataError) as caught:
        conversation_of(Example(record, PLACE))
    assert str(caught.value).startswith(f"talks.jsonl line 7: {told}")
