"""Tokenizers, chat templates as real models have them, and what a mark says."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from trainer.conversations.forms import conversation_of
from trainer.conversations.marking import FlaggedTokens, Marker
from trainer.conversations.pairs import Pair
from trainer.conversations.preferences import mark_pair
from trainer.conversations.records import Example
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.data.tokenizer import MAIN_FILE, Tokenizer, train_tokenizer
from trainer.recipe import ConversationsSection

PLACE = RecordLocation("talks.jsonl", "line", 7)
TEXTS = ["user\nassistant\nsystem\nWhat is the capital of France? Paris, of course."] * 9
TRAINED = train_tokenizer(TEXTS, 300)

HEADERS = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
"""In the manner of Llama 3: headers, a begin of text, contents stripped."""
INST = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'user' %}{{- '[INST] ' + message.content + ' [/INST]' }}
{%- elif message.role == 'assistant' %}{{- ' ' + message.content + eos_token }}
{%- else %}{{- raise_exception('Only user and assistant roles are supported!') }}{% endif %}
{%- endfor %}
"""
"""In the manner of Mistral: no system prompt, no header, the end of text ends an answer."""
GENERATION = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{- message.content + '<|im_end|>' }}{% endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""
"""ChatML that says which tokens are the assistant's, as TRL wants it."""
FORGETFUL = """\
{%- for message in messages %}
{%- set content = message.content %}
{%- if message.role == 'assistant' and not loop.last %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""
"""In the manner of Qwen 3: the reasoning of earlier answers is dropped."""
CLOSING = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' if add_generation_prompt else eos_token }}
"""
"""In the manner of Phi 3: an end of text where a conversation ends."""
WORDS = """\
{%- for message in messages %}{{- message.role + ': ' + message.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- 'assistant: ' }}{% endif %}
"""
"""No special token at all."""


def with_tokens(*names: str, **config: Any) -> Tokenizer:
    """The trained tokenizer with more special tokens, and other entries in its config."""
    files = TRAINED.files
    main = json.loads(files[MAIN_FILE])
    size = TRAINED.size
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for number, name in enumerate(names):
        main["added_tokens"].append(
            {"id": size + number, "content": name, "special": True, **flags}
        )
    files[MAIN_FILE] = json.dumps(main).encode()
    settings = json.loads(files["tokenizer_config.json"]) | config
    files["tokenizer_config.json"] = json.dumps(settings).encode()
    return Tokenizer(files, "the test's tokenizer")


LLAMA = with_tokens(
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    bos_token="<|begin_of_text|>",
)


def speaking(folder: Path, text: str, tokenizer: Tokenizer = TRAINED) -> ChatTemplate:
    """A template out of a file."""
    path = folder / "chat.jinja"
    path.write_text(text, encoding="utf-8")
    return ChatTemplate(tokenizer, str(path))


def talk(*contents: str, system: str | None = None) -> Conversation:
    """User and assistant in turn."""
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]
    before = [{"role": "system", "content": system}] if system is not None else []
    return parse({"messages": [*before, *turns]})


def parse(record: dict[str, Any]) -> Conversation:
    return conversation_of(Example(record, PLACE))


def shown(tokens: FlaggedTokens, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """Stretches of text and whether they are to predict."""
    stretches: list[tuple[list[int], bool]] = []
    for token in tokens:
        target = bool(token & np.uint32(TARGET))
        if not stretches or stretches[-1][1] != target:
            stretches.append(([], target))
        stretches[-1][0].append(int(token) & ID_MASK)
    return [(tokenizer.decode(ids), target) for ids, target in stretches]


def mark(conversation: Conversation, template: ChatTemplate, **section: Any) -> FlaggedTokens:
    """The tokens of a conversation that is one sequence."""
    (tokens,) = Marker(template, ConversationsSection(**section)).mark(conversation)
    return tokens


def pair_tokens(pair: Pair, template: ChatTemplate) -> FlaggedTokens:
    """The tokens of a pair."""
    marker = Marker(template, ConversationsSection(special_tokens="text"))
    sides = (pair.chosen.conversation, pair.rejected.conversation)
    return mark_pair(pair, marker, (marker.write(sides[0]), marker.write(sides[1])))


def marked(
    conversation: Conversation, template: ChatTemplate, **section: Any
) -> list[tuple[str, bool]]:
    return shown(mark(conversation, template, **section), template.tokenizer)
