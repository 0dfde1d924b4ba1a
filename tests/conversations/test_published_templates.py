"""Chat templates of published models, as TRL ships them: every answer as a server would ask for it.

The oracle is transformers: the prompt of each answer as apply_chat_template renders and encodes it.
"""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from tests.conversations.talks import PLACE, TRAINED
from trainer.conversations.abilities import CALLS_TEXT
from trainer.conversations.forms import conversation_of
from trainer.conversations.marking import FlaggedTokens, Marker
from trainer.conversations.one_pass import OnePass
from trainer.conversations.records import Example
from trainer.conversations.template import ChatTemplate
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError
from trainer.recipe import ConversationsSection

FOLDER = files("trl") / "chat_templates"
NAMES = sorted(file.name for file in FOLDER.iterdir() if file.name.endswith(".jinja"))
BAR = "\N{FULLWIDTH VERTICAL LINE}"
SPECIAL = re.compile(
    rf"<\|[^|<>]+\|>|<{BAR}[^{BAR}<>]+{BAR}>|</?s>|\[/?[A-Z_]+\]|<(?:start|end)_of_turn>|<(?:turn\||\|turn)>"
    r"|<end_of_utterance>|<\|?(?:im_start|im_end)\|?>|<\|[a-z_]+>|<[a-z_]+\|>"
)
IN_PARTS = re.compile(
    r"message\['content'\] \| selectattr|message\['content'\]\[0\]\['type'\]"
    r"|for line in message\['content'\]"
)
USER = {"role": "user", "content": "Is 91 prime?"}
NO = {"role": "assistant", "content": "No."}
AGAIN = {"role": "user", "content": "And 97?"}
YES = {"role": "assistant", "content": "Yes it is."}
LAST = {"role": "user", "content": "And 99?"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "tide",
            "description": "Height of the tide",
            "parameters": {
                "type": "object",
                "properties": {"harbour": {"type": "string", "description": "Where"}},
                "required": ["harbour"],
            },
        },
    }
]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "abcdefghi",
            "type": "function",
            "function": {"name": "tide", "arguments": {"harbour": "Ribe"}},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "tide", "content": "1.8 metres"}
OWN = {
    # Mistral v2 and v3: tools and system prompt stand before and in the last turn, if the user's.
    "mistral_v3": """{{- bos_token }}
{%- if messages[0].role == 'system' %}{%- set system = messages[0].content %}
{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}{%- endif %}
{%- set asked = turns | selectattr('role', 'equalto', 'user') | list %}
{%- for m in turns %}
{%- if m.role == 'user' %}
{%- if tools and m == asked[-1] %}{{- '[AVAILABLE_TOOLS]' + (tools | tojson)
+ '[/AVAILABLE_TOOLS]' }}{%- endif %}
{%- if loop.last and system is defined %}{{- '[INST]' + system + '\\n\\n' + m.content
+ '[/INST]' }}{%- else %}{{- '[INST]' + m.content + '[/INST]' }}{%- endif %}
{%- elif m.tool_calls %}{{- '[TOOL_CALLS]' + (m.tool_calls | tojson) + eos_token }}
{%- elif m.role == 'tool' %}{{- '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}
{%- else %}{{- ' ' + m.content | trim + eos_token }}{%- endif %}
{%- endfor %}""",
    # Nemo: no space in front of an answer, and what looks like text around questions.
    "nemo": """{{- bos_token }}
{%- if messages[0].role == 'system' %}{%- set system = messages[0].content %}
{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}{%- endif %}
{%- for m in turns %}
{%- if m.role == 'user' %}{{- 'Q: ' }}
{%- if loop.last and system is defined %}{{- system + '\\n\\n' }}{%- endif %}
{{- m.content + ' A:' }}{%- else %}{{- m.content + eos_token }}{%- endif %}
{%- endfor %}""",
    # QwQ: the prompt opens a reasoning block, and no turn shows one.
    "qwq": """{%- for m in messages %}{%- set said = m.content %}
{%- if m.role == 'assistant' %}{%- set said = said.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}{{- '<|im_start|>' + m.role + '\\n' + said + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}""",
}
TEXTS = {name: (FOLDER / name).read_text() for name in NAMES} | OWN
TALKS: dict[str, dict[str, Any]] = {
    "one": {"messages": [USER, NO]},
    "three": {"messages": [USER, NO, AGAIN, YES, LAST, NO]},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, USER, NO, AGAIN, YES]},
    "reasoning": {
        "messages": [
            USER,
            NO | {"reasoning_content": "It is 7 times 13."},
            AGAIN,
            YES | {"reasoning_content": "Nothing divides it."},
        ]
    },
    "tools": {"tools": TOOLS, "messages": [USER, CALL, RESULT, YES, AGAIN, NO]},
}


@cache
def speaking(text: str) -> tuple[ChatTemplate, PreTrainedTokenizerFast]:
    """Ours and transformers', with the special tokens that the template spells."""
    backend = tokenizers.Tokenizer.from_str(TRAINED.files["tokenizer.json"].decode())
    special = sorted(set(SPECIAL.findall(text)))
    backend.add_special_tokens(["<bos>", "<eos>", *special])
    backend.add_tokens(["<think>", "</think>"])
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
    )
    theirs.chat_template = text
    config = b'{"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<eos>"}'
    ours = {"tokenizer.json": backend.to_str().encode(), "tokenizer_config.json": config}
    return ChatTemplate(Tokenizer(ours, "a test's").speaking(text)), theirs


def sequences(record: dict[str, Any], template: ChatTemplate, **keys: Any) -> list[FlaggedTokens]:
    conversation = conversation_of(Example(record, PLACE))
    return Marker(template, ConversationsSection(**keys)).mark(conversation)


def prompts(record: dict[str, Any], theirs: PreTrainedTokenizerFast) -> list[list[int]]:
    """The ids of the prompt of each answer."""
    messages = record["messages"]
    if IN_PARTS.search(theirs.chat_template):
        # These write nothing of a text that is no list of parts.
        parts = [[{"type": "text", "text": one["content"]}] for one in messages]
        messages = [one | {"content": part} for one, part in zip(messages, parts, strict=True)]
    return [
        theirs.apply_chat_template(
            messages[:number], tools=record.get("tools"), add_generation_prompt=True
        )["input_ids"]
        for number, message in enumerate(messages)
        if message["role"] == "assistant"
    ]


def answers(tokens: FlaggedTokens) -> list[tuple[list[int], list[int]]]:
    """Each stretch of targets, and all the ids in front of it."""
    ids, learnt = tokens & np.uint32(ID_MASK), (tokens & np.uint32(TARGET)) != 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], learnt.astype(int), [0]))))
    return [(ids[:a].tolist(), ids[a:b].tolist()) for a, b in edges.reshape(-1, 2)]


UNSUITED = re.compile(r"leaves its tools out|fails on it: (System role|Conversation roles|Only)")
"""What a template itself refuses, or would lose in silence."""


def refusal(record: dict[str, Any], template: ChatTemplate) -> str | None:
    try:
        sequences(record, template)
    except DataError as fault:
        return str(fault)
    return None


def test_few_talks_are_refused_and_each_by_what_its_template_lacks() -> None:
    """Would catch templates that the test below would pass over: how many is counted here."""
    refused = {
        (name, kind): fault
        for name, text in TEXTS.items()
        for kind, record in TALKS.items()
        if (fault := refusal(record, speaking(text)[0])) is not None
    }
    unsuited = [key for key, fault in refused.items() if UNSUITED.search(fault)]
    closed = [key for key, fault in refused.items() if "closes the reasoning" in fault]
    lost = [key for key, fault in refused.items() if "leaves out '1.8 metres'" in fault]
    assert {kind for _, kind in unsuited} == {"tools", "system"}
    assert {name for name, _ in closed} == {
        "qwen3_5_nothink.jinja",
        "qwen3_5_nothink_training.jinja",
    }
    assert len(unsuited) + len(closed) + len(lost) == len(refused) <= 36


@pytest.mark.parametrize("kind", TALKS)
@pytest.mark.parametrize("name", TEXTS)
def test_every_answer_follows_its_prompt(name: str, kind: str) -> None:
    """Would catch an answer trained behind what no server asks with, twice, or not at all."""
    template, theirs = speaking(TEXTS[name])
    record = TALKS[kind]
    if refusal(record, template) is not None:
        return
    found = sequences(record, template)
    if CALLS_TEXT in template.given(conversation_of(Example(record, PLACE))).flattened:
        line = '{"name": "tide", "arguments": {"harbour": "Ribe"}}'
        flat = CALL | {"content": line}
        record = record | {"messages": [flat if m is CALL else m for m in record["messages"]]}
    wanted = prompts(record, theirs)
    learnt = [answer for tokens in found for answer in answers(tokens)]
    assert [before for before, _ in learnt] == wanted
    said = [m for m in record["messages"] if m["role"] == "assistant"]
    for (_, ids), message in zip(learnt, said, strict=True):
        text = theirs.decode(ids)
        assert message["content"] in text
        assert message.get("reasoning_content", "") in text
        assert all(c["function"]["name"] in text for c in message.get("tool_calls", ()))
        assert all("Ribe" in text for c in message.get("tool_calls", ()))
        ends = [tokens for tokens in found if answers(tokens)[-1][1] == ids]
        assert ids[-1] in template.borders.values() or not ends


@pytest.mark.parametrize("name", TEXTS)
def test_one_pass_is_what_rendering_each_prompt_gives(name: str) -> None:
    """Would catch a template that looks ahead taken for one that does not."""
    template, _ = speaking(TEXTS[name])
    for record in TALKS.values():
        conversation = conversation_of(Example(record, PLACE))
        if refusal(record, template) is not None:
            continue
        given, messages = template.given(conversation), conversation.messages
        asked = [n for n, one in enumerate(messages) if one.role == "assistant"]
        together = list(template.exchanges(given, asked, messages))
        assert together == [template.exchange(given, n, messages[n]) for n in asked]


@pytest.mark.parametrize(
    ("body", "ahead"),
    [
        ("", False),
        ("{% if loop.first or loop.previtem is defined %}!{% endif %}", False),
        ("{% if messages[0].role == 'user' %}!{% endif %}", False),
        ("{% if messages[loop.index0 - 1] %}!{% endif %}", True),
        ("{% if loop.last %}!{% endif %}", True),
        ("{% if not loop.last %}!{% endif %}", True),
        ("{% if loop.nextitem %}!{% endif %}", True),
        ("{% set mine = loop %}{% if mine.last %}!{% endif %}", True),
        ("{% if loop['last'] %}!{% endif %}", True),
        ("{% if messages[-1] == m %}!{% endif %}", True),
        ("{% if messages | length > 2 %}!{% endif %}", True),
        ("{{ messages | tojson }}", True),
        ("{{ (messages | selectattr('role', 'equalto', 'user') | list)[-1].content }}", True),
        ("{% set ns.last = m.content %}", True),
        ("{% set rest = messages | rejectattr('role', 'equalto', 'x') | list %}", True),
        ("{% if add_generation_prompt %}!{% endif %}", True),
    ],
)
def test_a_template_that_looks_ahead_is_not_rendered_in_one_pass(body: str, ahead: bool) -> None:
    """Would catch a shortcut taken where it is none: those of the second kind differ by what comes
    later, or cannot be seen not to.
    """
    text = (
        "{% set ns = namespace(last='') %}{% for m in messages %}{{ '<|im_start|>' + m.role + ':'"
        " + m.content }}" + body + "{{ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant:'"
        + (" + ns.last }}{% endif %}" if "ns.last" in body else "}}{% endif %}")
    )
    if "rejectattr" in body:
        before = "{% set rest = messages | rejectattr('role', 'equalto', 'x') | list %}"
        text = before + text.replace("in messages", "in rest").replace(body, "")
    environment = speaking(text)[0].environment
    turns = [dict(turn) for turn in TALKS["three"]["messages"]]
    passed = OnePass(environment, text).render(turns, {})
    assert (passed is None) is ahead
    if passed is not None:
        compiled = environment.from_string(text)
        for number in (1, 3, 5):
            prompt = compiled.render(messages=turns[:number], add_generation_prompt=True)
            assert prompt == passed.text[: passed.starts[number]] + "<|im_start|>assistant:"
