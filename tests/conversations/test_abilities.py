"""What a template reads, tried out: each thing where a conversation has it, and as it is given."""

import json
from importlib.resources import files
from typing import Any

import pytest

from tests.conversations.talks import PLACE
from tests.conversations.test_published_templates import TOOLS, answers, sequences, speaking
from trainer.conversations.abilities import PARTS_TEXT, RESULTS_TEXT
from trainer.conversations.columns import SetNames
from trainer.conversations.forms import conversation_of
from trainer.conversations.marking import Marker
from trainer.conversations.records import Example
from trainer.errors import DataError, RecipeError
from trainer.recipe import ConversationsSection

USER = {"role": "user", "content": "How high?"}
SO = {"role": "assistant", "content": "So so."}
RIBE = {"name": "tide", "arguments": {"harbour": "Ribe"}}
CALL = {"id": "abcdefghi", "type": "function", "function": RIBE}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
LOOP = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}BODY{{- '<|im_end|>\\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
TEXT = "{{- m.content }}"
CALLS = "{%- for c in m.tool_calls or [] %}{{- 'CALL ' + (c.function | tojson) }}{%- endfor %}"


def published(name: str) -> str:
    return (files("trl") / "chat_templates" / name).read_text()


def learnt(text: str, messages: list[Any], tools: bool = False, **beside: Any) -> list[str]:
    """The answers that are learnt, as text."""
    template, theirs = speaking(text)
    record = {"messages": messages, **({"tools": TOOLS} if tools else {}), **beside}
    found = [ids for tokens in sequences(record, template) for _, ids in answers(tokens)]
    return [str(theirs.decode(ids)) for ids in found]


def whole(text: str, messages: list[Any], **beside: Any) -> str:
    """What transformers renders."""
    return str(speaking(text)[1].apply_chat_template(messages, tokenize=False, **beside))


def flattened(text: str, messages: list[Any]) -> tuple[str, ...]:
    given = speaking(text)[0].given(conversation_of(Example({"messages": messages}, PLACE)))
    return given.flattened


def asked(text: str, messages: list[Any], number: int) -> str:
    """Our prompt for the answer at this turn."""
    template = speaking(text)[0]
    given = template.given(conversation_of(Example({"messages": messages}, PLACE)))
    return template.written(given, number, add_generation_prompt=True)


def test_an_answer_ends_with_its_turn_and_not_with_what_stands_behind() -> None:
    """Would catch documents behind a conversation learnt as if the model had said them."""
    documents = """{%- if documents %}{{- '<|im_start|>system\\n' }}
{%- for d in documents %}{{- d.text }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}"""
    asks = "{%- if add_generation_prompt"
    behind = LOOP.replace("BODY", TEXT).replace(asks, documents + asks)
    document = {"title": "Tide", "text": "So so."}
    assert learnt(behind, [USER, SO], documents=[document]) == ["So so.<|im_end|>"]


def test_a_prompt_that_is_always_written_is_not_learnt() -> None:
    """Would catch the opening of the next answer learnt, and exported as what ends one."""
    turn = "{{- '<|turn|>' + m.role + '<|say|>' + m.content + '<|over|>' }}"
    # Both roles end in the same token, or the answer has one more.
    further = "{%- if m.role == 'assistant' %}{{- '<|end|>' }}{%- endif %}"
    opening = "{{- '<|turn|>assistant<|say|><|think|><|thought|>' }}"
    for own, end in (("", "<|over|>"), (further, "<|end|>")):
        text = "{%- for m in messages %}" + turn + own + "{%- endfor %}" + opening
        said = "So so.<|over|>" + ("<|end|>" if own else "")
        assert learnt(text, [USER, SO, USER, SO]) == [said, said]
        template = speaking(text)[0]
        assert template.turn_end == template.borders[end]
    # Both turns end in two tokens, and nothing follows.
    text = LOOP.replace("BODY", "{{- m.content + '<|over|>' }}")
    assert learnt(text, [USER, SO, USER, SO]) == ["So so.<|over|><|im_end|>"] * 2


def test_instructions_behind_a_call_are_not_learnt() -> None:
    """Would catch what a template says behind each conversation learnt, for want of an own end."""
    body = "{{- '<|turn|>' + m.role + '<|say|>' }}{%- if m.tool_calls %}{{- 'Action: '"
    body += " + (m.tool_calls[0].function | tojson) }}{%- else %}{{- m.content + '<|over|>' }}"
    text = "{%- for tool in tools or [] %}{{- tool.function.name }}{%- endfor %}"
    text += "{%- for m in messages %}" + body + "{%- endif %}{%- endfor %}{%- if tools %}"
    text += "{{- '<|turn|>system<|say|>Write an action.<|over|>' }}{%- endif %}"
    text += "{%- if add_generation_prompt %}{{- '<|turn|>assistant<|say|>' }}{%- endif %}"
    result = {"role": "tool", "tool_call_id": "abcdefghi", "content": "1.8"}
    call, answer = learnt(text, [USER, CALLING, result, SO], tools=True)
    assert call.startswith('Action: {"name": "tide"') and "Write" not in call
    assert answer == "So so.<|over|>"


def test_an_answer_that_its_reasoning_quotes_is_learnt_whole() -> None:
    """Would catch an end of turn taken from inside of the reasoning."""
    text = """{%- for m in messages %}{{- '<|turn|>' + m.role }}
{%- if m.reasoning %}{{- '<|think|>' + m.reasoning + '<|over|><|turn|>' + m.role }}{%- endif %}
{{- '<|say|>' + m.content + '<|over|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|turn|>assistant' }}{%- endif %}"""
    answer = SO | {"reasoning": "I say: So so. It is."}
    (found,) = learnt(text, [USER, answer], chat_template_kwargs={"mode": "long"})
    assert found == "<|think|>I say: So so. It is.<|over|><|turn|>assistant<|say|>So so.<|over|>"


@pytest.mark.parametrize("name", ["gemma4.jinja", "gemma4_v3.jinja"])
def test_reasoning_is_read_where_a_template_reads_it_before_calls_alone(name: str) -> None:
    """Would catch reasoning written behind the call that it led to, in another model's tags."""
    think = CALLING | {"reasoning_content": "think first"}
    result = {"role": "tool", "tool_call_id": "abcdefghi", "name": "tide", "content": "1.8"}
    first, last = learnt(published(name), [USER, think, result, SO], tools=True)
    assert first.startswith("<|channel>thought\nthink first\n<channel|><|tool_call>call:tide")
    assert "think" not in last
    text = published("gemma4_v2.jinja")
    with pytest.raises(DataError, match="line 7: the chat template reads no reasoning, and writes"):
        learnt(text, [USER, think, result, SO], tools=True)


@pytest.mark.parametrize("said", ["mull one\n</think>\n\nThe a.", "The tag `</think>` closes it."])
def test_reasoning_that_the_text_begins_with_stands_once(said: str) -> None:
    """Would catch the words before a closing tag learnt twice."""
    name = next(
        file.name
        for file in (files("trl") / "chat_templates").iterdir()
        if file.name.startswith("nemotron_3")
    )
    (found,) = learnt(published(name), [USER, {"role": "assistant", "content": said}])
    assert found.startswith(said) and found.count("</think>") == 1


def test_a_block_that_the_template_closes_itself_is_closed_once() -> None:
    """Would catch a second closing tag behind the reasoning, as DeepSeek V3.1 writes its own."""
    text = """{%- for m in messages %}{%- if m.role == 'user' %}{{- '<|user|>' + m.content }}
{%- else %}{{- '<|bot|></think>' + m.content.split('</think>')[-1] + '<|end|>' }}{%- endif %}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|bot|><think>' }}{%- endif %}"""
    for answer in (SO | {"reasoning_content": "mull"}, SO | {"content": "mull</think>So so."}):
        assert learnt(text, [USER, answer]) == ["mull</think>So so.<|end|>"]
    # Spark closes the block, and writes the answer's own behind it.
    whole_text = text.replace(".split('</think>')[-1]", "")
    own = SO | {"content": "<think>\nmull\n</think>\n\nSo so."}
    assert learnt(whole_text, [USER, own]) == ["mull</think>So so.<|end|>"]
    # Cohere's own tags open it, and the answer's text has others.
    cohere = text.replace("<|bot|></think>", "<|bot|>").replace(".split('</think>')[-1]", "")
    cohere = cohere.replace("<think>", "<|START_THINKING|>")
    (found,) = learnt(cohere, [USER, own])
    assert found == "mull\n<|END_THINKING|>\n\nSo so.<|end|>"


def test_an_empty_block_in_a_prompt_is_no_contradiction() -> None:
    """Would catch Gemma 4's own template refused for the channel that its prompt closes."""
    text = """{%- for m in messages %}{{- '<|turn>' + m.role + '\n' + m.content + '<turn|>\n' }}
{%- endfor %}{%- if add_generation_prompt %}
{{- '<|turn>assistant\n<|channel>thought\n<channel|>' }}{%- endif %}"""
    assert learnt(text, [USER, SO]) == ["So so.<turn|>"]


def test_reasoning_that_only_a_newest_answer_shows_is_read() -> None:
    """Would catch reasoning written as text where the template reads it behind another answer."""
    text = LOOP.replace(
        "BODY",
        """{%- if m.role == 'assistant' and messages | length > 2 and loop.last %}
{{- '<think>' + (m.reasoning_content or '') + '</think>' }}{%- endif %}{{- m.content }}""",
    )
    answer = SO | {"reasoning_content": "mull"}
    assert flattened(text, [USER, SO, USER, answer]) == ()
    assert learnt(text, [USER, SO, USER, answer])[-1] == "<think>mull</think>So so.<|im_end|>"


def test_a_switch_in_a_system_prompt_is_the_templates_own() -> None:
    """Would catch a system prompt refused for a word that sets the template and is not shown."""
    body = "{{- m.content.replace('/no_think', '').strip() if m.role == 'system' else m.content }}"
    text = LOOP.replace("BODY", body)
    system = {"role": "system", "content": "Be brief. /no_think"}
    assert learnt(text, [system, USER, SO]) == ["So so.<|im_end|>"]
    with pytest.raises(DataError, match=r"leaves out 'Be brief\. /no_think'"):
        learnt(text.replace("'/no_think'", "'/no_' ~ 'think'"), [system, USER, SO])


@pytest.mark.parametrize("kind", ["thinking", "reasoning"])
def test_reasoning_reaches_a_template_that_reads_parts_of_it(kind: str) -> None:
    """Would catch Mistral's reasoning in others' tags, and text in front of it refused."""
    (found,) = learnt(THINKS, [USER, SO | {"reasoning_content": "mull"}])
    assert found == "[THINK]mull[/THINK]So so.<|im_end|>"
    parts = [{"type": "text", "text": "Before "}, {"type": kind, kind: "mull"}]
    parts.append({"type": "text", "text": "So so."})
    (found,) = learnt(THINKS, [USER, SO | {"content": parts}])
    assert found == "Before [THINK]mull[/THINK]So so.<|im_end|>"
    calls = THINKS.replace("{{- '<|im_end|>", CALLS + "{{- '<|im_end|>")
    (found,) = learnt(calls, [USER, CALLING | {"reasoning_content": "mull"}])
    assert found == f"[THINK]mull[/THINK]CALL {json.dumps(RIBE)}<|im_end|>"


THINKS = LOOP.replace(
    "BODY",
    """{%- if m.content is string %}{{- m.content }}{%- else %}{%- for p in m.content %}
{%- if p.type == 'thinking' %}{{- '[THINK]' + p.thinking + '[/THINK]' }}
{%- else %}{{- p.text }}{%- endif %}{%- endfor %}{%- endif %}""",
)


def test_parts_of_thinking_reach_the_template_that_reads_them() -> None:
    """Would catch a draft in a system prompt lost, or an answer's thought in others' tags."""
    thought = [{"type": "thinking", "thinking": "mull"}, {"type": "text", "text": "So so."}]
    system = [{"type": "text", "text": "Think."}, {"type": "thinking", "thinking": "Draft"}]
    turns = [{"role": "system", "content": system}, USER, SO | {"content": thought}]
    assert learnt(THINKS, turns) == ["[THINK]mull[/THINK]So so.<|im_end|>"]
    prompt = whole(THINKS, turns[:2], add_generation_prompt=True)
    assert asked(THINKS, turns, 2) == prompt
    assert "Think.[THINK]Draft[/THINK]<|im_end|>" in prompt
    plain = LOOP.replace("BODY", TEXT)
    assert learnt(plain, [USER, turns[2]]) == ["<think>\nmull\n</think>\n\nSo so.<|im_end|>"]
    with pytest.raises(DataError, match="line 7: the system's turn has a part of thinking"):
        learnt(plain, turns)
    forged = [{"type": "thinking", "thinking": "<|im_end|>"}, {"type": "text", "text": "x"}]
    with pytest.raises(DataError, match=r"spells <\|im_end\|>"):
        learnt(THINKS, [{"role": "system", "content": forged}, USER, SO])


def test_a_template_that_needs_tools_is_tried_with_tools() -> None:
    """Would catch a system prompt taken for unread because the template fails without tools."""
    body = LOOP.replace("BODY", TEXT + CALLS)
    needs = "{%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}" + body
    template = speaking(needs)[0]
    template.check()
    assert template.abilities.system and template.abilities.calls
    turns = [{"role": "system", "content": "Be brief."}, USER, SO]
    assert learnt(needs, turns, tools=True) == ["So so.<|im_end|>"]
    documents = "{%- for d in documents %}{{- d.title + '\\n' }}{%- endfor %}" + body
    speaking(documents)[0].check()
    with pytest.raises(RecipeError, match="fails"):
        speaking("{{- nothing.at.all }}" + body)[0].check()


@pytest.mark.parametrize("result", [{"height": 1.8}, [{"height": 1.8}, "low"]])
def test_a_structured_result_is_given_as_it_is_or_as_json(result: Any) -> None:
    """Would catch an object refused, or spelled as Python does."""
    said = {"role": "tool", "tool_call_id": "abcdefghi", "content": result}
    turns = [USER, CALLING, said, SO]
    reads = LOOP.replace(
        "BODY", "{{- m.content if m.content is string else (m.content | tojson) }}" + CALLS
    )
    spells = LOOP.replace("BODY", "{{- m.content ~ '' }}" + CALLS)
    # It goes through an object's keys, and loses their values.
    keys = LOOP.replace("BODY", "{%- for k in m.content %}{{- k }}{%- endfor %}" + CALLS)
    for text, says in ((reads, ()), (spells, (RESULTS_TEXT,)), (keys, (RESULTS_TEXT,))):
        assert json.dumps(result) in asked(text, turns, 3)
        assert flattened(text, turns) == says
        assert len(learnt(text, turns)) == 2


def test_parts_are_tried_in_the_turn_that_has_them() -> None:
    """Would catch a tool's parts spelled as Python does, because a question's are read."""
    text = LOOP.replace(
        "BODY",
        """{%- if m.role == 'user' and m.content is not string %}
{%- for p in m.content %}{{- p.text }}{%- endfor %}{%- else %}{{- m.content ~ '' }}{%- endif %}"""
        + CALLS,
    )
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    said = {"role": "tool", "tool_call_id": "abcdefghi", "content": parts}
    assert flattened(text, [USER | {"content": parts}, SO]) == ()
    assert flattened(text, [USER, CALLING, said, SO]) == (PARTS_TEXT,)
    prompt = asked(text, [USER, CALLING, said, SO], 3)
    assert "<|im_start|>tool\none two<|im_end|>" in prompt


def test_arguments_that_a_template_spells_as_python_does_are_found() -> None:
    """Would catch code in a call refused as if the template had left it out."""
    body = "{{- m.content or '' }}{%- for c in m.tool_calls or [] %}{{- c.function.name + '(' }}"
    body += "{%- for k, v in c.function.arguments.items() %}{{- k + '=' + pyrepr(v) }}{%- endfor %}"
    body = body.replace("pyrepr(v)", "([v] ~ '')[1:-1]") + "{{- ')' }}{%- endfor %}"
    code = 'print("a")\nprint(1)'
    call = {"function": {"name": "run", "arguments": {"code": code}}}
    (found,) = learnt(LOOP.replace("BODY", body), [USER, CALLING | {"tool_calls": [call]}])
    assert found == f"run(code={code!r})<|im_end|>"


def test_arguments_as_a_string_stay_one_where_the_template_takes_no_other() -> None:
    """Would catch numbers and spaces of a call respelled behind a template that copies them."""
    body = "{{- m.content or '' }}{%- for c in m.tool_calls or [] %}{{- c.function.name + ' '"
    text = LOOP.replace("BODY", body + " + c.function.arguments }}{%- endfor %}")
    held = '{"harbour":"Ribe","n":1.50}'
    for arguments, written in ((held, held), (json.loads(held), '{"harbour": "Ribe", "n": 1.5}')):
        call = {"function": {"name": "tide", "arguments": arguments}}
        (found,) = learnt(text, [USER, CALLING | {"tool_calls": [call]}])
        assert found == f"tide {written}<|im_end|>"


def test_a_documents_number_need_not_be_written() -> None:
    """Would catch documents refused because an id or a score is no text."""
    text = "{%- for d in documents or [] %}{%- if d.score > 0.1 %}{{- d.doc_id ~ ': ' + d.text }}"
    text += "{%- endif %}{%- endfor %}" + LOOP.replace("BODY", TEXT)
    document = {"doc_id": 1, "score": 0.5, "text": "It is high."}
    assert learnt(text, [USER, SO], documents=[document]) == ["So so.<|im_end|>"]
    with pytest.raises(DataError, match="leaves its documents out"):
        learnt(text, [USER, SO], documents=[document | {"score": 0.05}])


def test_no_result_and_no_string_of_arguments_forges_a_token() -> None:
    """Would catch a token that JSON's escapes hide, or that stands behind a doubled key."""
    items = "{%- if m.content is mapping %}{%- for k, v in m.content.items() %}{{- k ~ ':' ~ v }}"
    items += "{%- endfor %}{%- else %}{{- m.content }}{%- endif %}" + CALLS
    text = LOOP.replace("BODY", items) + "{#- <|quote|> -#}"
    said = {"role": "tool", "tool_call_id": "abcdefghi", "content": {"a": "x<|quote|>y"}}
    with pytest.raises(DataError, match=r"spells <\|quote\|>"):
        learnt(text, [USER, CALLING, said, SO])
    doubled = '{"harbour":"x<|im_end|>y","harbour":"Ribe"}'
    call = {"function": {"name": "tide", "arguments": doubled}}
    with pytest.raises(DataError, match=r"spells <\|im_end\|>"):
        learnt(text, [USER, CALLING | {"tool_calls": [call]}])


def test_joined_turns_keep_the_reasoning_of_both() -> None:
    """Would catch the thought of a key lost beside a part of thinking."""
    parts = [{"type": "thinking", "thinking": "second"}, {"type": "text", "text": "Two."}]
    turns = [USER, SO | {"content": "One.", "reasoning_content": "first"}, SO | {"content": parts}]
    names = SetNames(same_role="join")
    conversation = conversation_of(Example({"messages": turns}, PLACE), names)
    template, theirs = speaking(THINKS)
    (tokens,) = Marker(template, ConversationsSection()).mark(conversation)
    ((_, ids),) = answers(tokens)
    wanted = "[THINK]first[/THINK]One.\n\n[THINK]second[/THINK]Two.<|im_end|>"
    assert theirs.decode(ids) == wanted
