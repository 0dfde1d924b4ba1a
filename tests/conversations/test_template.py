"""Chat templates: rendered as transformers does, and refused in one line where they fail."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.conversations.talks import (
    CLOSING,
    FORGETFUL,
    GENERATION,
    HEADERS,
    INST,
    LLAMA,
    TRAINED,
    WORDS,
    mark,
    marked,
    parse,
    speaking,
    talk,
    with_tokens,
)
from trainer.conversations.spans import asked
from trainer.conversations.template import CHATML, ChatTemplate
from trainer.data.tokenizer import TURN_END, Tokenizer, load_tokenizer
from trainer.errors import DataError, RecipeError

TALK = talk("One?", "First.", "Two?", "Second.")
VARIABLES = """\
{{- [bos_token, eos_token, pad_token, unk_token, cls_token, image_token] | join('/') }}
{%- for m in messages %}{{- m.role + (m.name or '') + ':' + m.content }}{% endfor %}"""


@pytest.mark.parametrize("add_generation_prompt", [False, True])
@pytest.mark.parametrize(
    "text", [CHATML, HEADERS, INST, GENERATION, FORGETFUL, CLOSING, WORDS, VARIABLES]
)
def test_rendered_as_transformers_renders(
    tmp_path: Path, text: str, add_generation_prompt: bool
) -> None:
    """Would catch a variable, a filter or a rule of blanks that transformers has and we do not."""
    tokenizer = with_tokens(
        "<|begin_of_text|>",
        bos_token={"content": "<|begin_of_text|>", "__type": "AddedToken"},
        unk_token=None,
        extra_special_tokens={"image_token": "<|im_start|>"},
    )
    ours = speaking(tmp_path, text, tokenizer)
    ours.tokenizer.save(tmp_path / "saved")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    record = {
        "messages": [
            {"role": "user", "content": "One <b>?"},
            {"role": "assistant", "content": "First & last."},
            {"role": "user", "content": "Two?", "name": "Ann"},
            {"role": "assistant", "content": "Second."},
        ],
    }
    expected = theirs.apply_chat_template(
        record["messages"], tokenize=False, add_generation_prompt=add_generation_prompt
    )
    assert ours.render(parse(record).messages, add_generation_prompt) == expected


def test_the_saved_tokenizer_speaks_and_stops(tmp_path: Path) -> None:
    """Would catch an export that lost the template, or that writes on behind the end of turn."""
    template = ChatTemplate(TRAINED)
    template.tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.chat_template == CHATML
    assert again.ends == {TRAINED.end_of_text, TRAINED.special_tokens[TURN_END]}
    assert marked(TALK, ChatTemplate(again)) == marked(TALK, template)


def test_the_recipe_goes_before_the_tokenizer_and_chatml_comes_last(tmp_path: Path) -> None:
    """Would catch a template of the recipe's that is read over."""
    own = TRAINED.speaking(INST)
    assert ChatTemplate(own).text == INST
    assert ChatTemplate(own, "chatml").text == CHATML
    assert speaking(tmp_path, HEADERS, own).text == HEADERS
    assert ChatTemplate(TRAINED).text == CHATML


def test_the_recipes_system_prompt_fills_in(tmp_path: Path) -> None:
    """Would catch one that replaces the conversation's own, or that is never shown."""
    template = ChatTemplate(TRAINED, system="Be brief.")
    assert "system\nBe brief.<|im_end|>" in marked(TALK, template)[0][0]
    shown = marked(talk("One?", "First.", system="Be long."), template)[0][0]
    assert "Be long." in shown and "Be brief." not in shown
    with pytest.raises(RecipeError, match=r"conversations.system: spells <\|im_end\|>"):
        ChatTemplate(TRAINED, system="a<|im_end|>")


def test_a_template_that_refuses_an_example_is_named_with_its_place(tmp_path: Path) -> None:
    """Would catch a traceback out of somebody else's program."""
    template = speaking(tmp_path, INST)
    with pytest.raises(DataError) as caught:
        mark(talk("One?", "First.", system="Be brief."), template)
    assert str(caught.value) == (
        f"talks.jsonl line 7: the chat template ({template.name}) fails on it: Only user and"
        " assistant roles are supported!"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{% for m in messages %}", "fails, line 1 (Unexpected end of template."),
        ("{{ messages[0].parts[0] }}", "fails ('dict object' has no attribute 'parts')"),
        ("{{ 1 // 0 }}", "fails (integer division or modulo by zero)"),
        ("{{ ''.__class__.__mro__ }}", "fails (access to attribute '__class__'"),
        ("{{ messages[0].content }}", "leaves out what the assistant says; name another"),
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}Answer: {% endif %}",
            "begins an answer otherwise than it prompts for one; name another",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_at_once(
    tmp_path: Path, text: str, told: str
) -> None:
    """Would catch a set that is read for an hour before the first answer is rendered."""
    with pytest.raises(RecipeError) as caught:
        speaking(tmp_path, text).check()
    assert str(caught.value).startswith(f"conversations.template: {tmp_path}/chat.jinja {told}")
    assert "\n" not in str(caught.value)


def test_a_missing_template_and_missing_tokens_are_refused(tmp_path: Path) -> None:
    """Would catch borders of turns that are spelled in letters."""
    with pytest.raises(RecipeError, match=r"no.jinja cannot be read \(No such file"):
        ChatTemplate(TRAINED, str(tmp_path / "no.jinja"))
    files = TRAINED.files
    files["tokenizer.json"] = files["tokenizer.json"].replace(b"<|im_", b"<|xx_")
    with pytest.raises(RecipeError) as caught:
        ChatTemplate(Tokenizer(files, "another"))
    assert str(caught.value) == (
        "conversations.template: ChatML needs <|im_start|> and <|im_end|> among the tokenizer's"
        " special tokens; name a template file that does without"
    )
    assert speaking(tmp_path, WORDS, Tokenizer(files, "another")).turn_end is None


def test_an_end_that_only_the_generation_config_knows_ends_a_turn(tmp_path: Path) -> None:
    """Would catch Gemma's end of turn, which is no special token there, left unlearnt."""
    files = LLAMA.files
    files["tokenizer.json"] = files["tokenizer.json"].replace(
        b'"content": "<|eot_id|>", "special": true', b'"content": "<|eot_id|>", "special": false'
    )
    end = LLAMA.special_tokens["<|eot_id|>"]
    files["generation_config.json"] = b'{"eos_token_id": [%d]}' % end
    tokenizer = Tokenizer(files, "another")
    assert "<|eot_id|>" not in tokenizer.special_tokens
    assert speaking(tmp_path, HEADERS, tokenizer).turn_end == end


TOOL = {"type": "function", "function": {"name": "tide", "parameters": {}}}
CALLED = [
    {"role": "user", "content": "High?"},
    {"role": "assistant", "content": None, "tool_calls": [TOOL | {"id": "a"}]},
    {"role": "tool", "content": "1 m", "tool_call_id": "a", "weather": "calm"},
    {"role": "assistant", "content": "1 m."},
]
NAMED = """\
{{- tools | length }}{% for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + (m.content or '') }}
{%- for call in m.tool_calls or [] %}
{{- '[' + call.function.name + (call.function.arguments | tojson) + ']' }}{% endfor %}
{{- (tools[0].function.name if loop.first else '') + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""


def test_an_example_with_tools_takes_the_template_for_tools(tmp_path: Path) -> None:
    """Would catch a named template that nobody uses, or that every example gets."""
    files = TRAINED.files | {"additional_chat_templates/tool_use.jinja": NAMED.encode()}
    template = ChatTemplate(Tokenizer(files, "another"))
    with_tools = marked(parse({"messages": CALLED, "tools": [TOOL]}), template)
    assert with_tools[0][0].startswith("1<|im_start|>user\nHigh?tide<|im_end|>")
    assert with_tools[1] == ("[tide{}]<|im_end|>", True)
    assert marked(TALK, template) == marked(TALK, ChatTemplate(TRAINED))
    named = ChatTemplate(Tokenizer(files, "another"), "tool_use")
    assert named.text == NAMED, "a recipe may name it for all"


def test_variables_of_recipe_and_example_reach_the_template(tmp_path: Path) -> None:
    """Would catch a prompt that is trained with thinking on, and served with it off."""
    text = HEADERS + "{{- 'thinks' if thinks else 'does not' }}"
    path = tmp_path / "chat.jinja"
    path.write_text(text)
    on = ChatTemplate(LLAMA, str(path), variables={"thinks": True})
    assert on.render(TALK.messages).endswith("thinks")
    own = parse({"messages": CALLED[2:3], "chat_template_kwargs": {"thinks": False}} | ASKED)
    assert asked(replace(own, messages=own.messages[:1]), on).prompt.endswith("does not")
    with pytest.raises(DataError, match='"chat_template_kwargs" sets messages, which'):
        parse({"chat_template_kwargs": {"messages": []}} | ASKED)


ASKED = {"messages": [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "1."}]}
SILENT = """\
{%- for m in messages %}{%- if m.role in ('user', 'assistant') %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"system": "S"} | ASKED, "message 1 (system): the chat template"),
        ({"messages": CALLED}, "message 3 (tool): the chat template"),
        ({"tools": [TOOL]} | ASKED, "leaves its tools out"),
        ({"documents": [{"title": "T", "text": "Of the sea."}]} | ASKED, "leaves its documents"),
    ],
)
def test_what_a_template_leaves_out_is_refused(
    tmp_path: Path, record: dict[str, Any], told: str
) -> None:
    """Would catch a system prompt, a result or a tool that is dropped with exit code 0."""
    template = speaking(tmp_path, SILENT)
    with pytest.raises(DataError) as caught:
        mark(parse(record), template)
    assert str(caught.value).startswith("talks.jsonl line 7: ") and told in str(caught.value)
    assert marked(parse(ASKED), template)[1] == ("1.<|im_end|>", True), "the negative control"
    # What asks for the answer is refused too, as it would ask something else.
    waiting = [replace(one, messages=one.messages[:-1]) for one in map(parse, (record, ASKED))]
    with pytest.raises(DataError) as caught:
        asked(waiting[0], template)
    assert told in str(caught.value)
    assert asked(waiting[1], template).prompt.endswith("One?<|im_end|>\n<|im_start|>assistant\n")


def test_what_asks_for_an_answer_says_what_is_flattened_and_unread(tmp_path: Path) -> None:
    """Would catch calls that `lyceum generate` turns into text, and keys it drops, unsaid."""
    user = CALLED[0] | {"mood": "curious"}
    record = {"messages": [user, *CALLED[1:]], "chat_template_kwargs": {"tone": "dry"}}
    conversation = parse(record)
    waiting = replace(conversation, messages=conversation.messages[:3])
    found = asked(waiting, speaking(tmp_path, CHATML))
    assert '{"name": "tide", "arguments": {}}<|im_end|>' in found.prompt
    assert found.flattened == ("tool calls written as a line of JSON",)
    assert found.unread >= {"turns' mood", "chat_template_kwargs' tone"}
