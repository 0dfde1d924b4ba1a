"""Which tokens are to predict, under templates as real models have them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conversations.talks import (
    CLOSING,
    FORGETFUL,
    GENERATION,
    HEADERS,
    INST,
    LLAMA,
    PLACE,
    TRAINED,
    WORDS,
    mark,
    marked,
    parse,
    shown,
    speaking,
    talk,
)
from trainer.conversations.marking import Marker, count_targets, shorten
from trainer.conversations.template import ChatTemplate
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.data.tokenizer import END_OF_TEXT, MAIN_FILE, TURN_END, TURN_START, Tokenizer
from trainer.errors import DataError
from trainer.recipe import ConversationsSection

CHATML = ChatTemplate(TRAINED)
TWO = talk("One?", "First.", "Two?", "Second.", system="Be brief.")


def test_chatml_token_by_token() -> None:
    """Would catch a mask that is off by a token, at either end of an answer."""
    start, end = (TRAINED.special_tokens[name] for name in (TURN_START, TURN_END))
    line, answer = TRAINED.encode("\n"), TRAINED.encode("Paris")
    expected = [start, *TRAINED.encode("user\nHi"), end, *line, start]
    expected += [*TRAINED.encode("assistant\n"), *(token | TARGET for token in answer)]
    expected += [end | TARGET, *line]
    tokens = mark(talk("Hi", "Paris"), CHATML)
    assert tokens.dtype == np.uint32 and tokens.tolist() == expected


def test_chatml_supervises_each_answer_and_its_end() -> None:
    """Would catch a loss on the last answer only, on the user, or on the break between turns."""
    assert marked(TWO, CHATML) == [
        (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n"
            "<|im_start|>assistant\n",
            False,
        ),
        ("First.<|im_end|>", True),
        ("\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n", False),
        ("Second.<|im_end|>", True),
        ("\n", False),
    ]


def test_headers_strip_and_begin(tmp_path: Path) -> None:
    """Would catch a stripped answer taken for a changed one, and a begin of text lost."""
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    assert marked(talk("  One? ", "First. \n"), speaking(tmp_path, HEADERS, LLAMA)) == [
        (
            "<|begin_of_text|>"
            + header.format("user")
            + "One?<|eot_id|>"
            + header.format("assistant"),
            False,
        ),
        ("First.<|eot_id|>", True),
    ]


def test_an_end_of_turn_that_is_the_end_of_text_is_supervised(tmp_path: Path) -> None:
    """Would catch masks made of ids: here padding, end of text and end of turn are one token."""
    template = speaking(tmp_path, INST)
    assert template.turn_end == TRAINED.end_of_text
    assert marked(talk("One?", "First.", "Two?", "Second."), template) == [
        (f"{END_OF_TEXT}[INST] One? [/INST]", False),
        (f" First.{END_OF_TEXT}", True),
        ("[INST] Two? [/INST]", False),
        (f" Second.{END_OF_TEXT}", True),
    ]


def test_a_generation_block_changes_nothing(tmp_path: Path) -> None:
    """Would catch a renderer that does not know transformers' own tag."""
    assert marked(TWO, speaking(tmp_path, GENERATION)) == marked(TWO, CHATML)


def test_what_closes_a_conversation_is_no_part_of_earlier_turns(tmp_path: Path) -> None:
    """Would catch an end of text in the middle, or such templates refused from two answers on."""
    template = speaking(tmp_path, CLOSING)
    assert template.turn_end == TRAINED.special_tokens[TURN_END]
    assert marked(TWO, template) == [*marked(TWO, CHATML)[:-1], (f"\n{END_OF_TEXT}", False)]


def test_without_a_special_token_the_last_answer_ends_the_text(tmp_path: Path) -> None:
    """Would catch a model that never learns to stop."""
    template = speaking(tmp_path, WORDS)
    assert template.turn_end is None
    assert marked(talk("One?", "First.", "Two?", "Second."), template) == [
        ("user: One?\nassistant: ", False),
        ("First.\n", True),
        ("user: Two?\nassistant: ", False),
        (f"Second.\n{END_OF_TEXT}", True),
    ]


def test_a_rewritten_conversation_is_a_sequence_an_answer(tmp_path: Path) -> None:
    """Would catch a model trained on what it will not see when it is asked the second question."""
    template = speaking(tmp_path, FORGETFUL)
    thought = talk("One?", "<think>Hm.</think>\n\nFirst.", "Two?", "Second.")
    first, second = Marker(template, ConversationsSection()).mark(thought)
    asked = "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(first, TRAINED) == [
        (asked, False),
        ("<think>Hm.</think>\n\nFirst.<|im_end|>", True),
        ("\n", False),
    ]
    again = "First.<|im_end|>\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(second, TRAINED) == [
        (asked + again, False),
        ("Second.<|im_end|>", True),
        ("\n", False),
    ]
    (last,) = Marker(template, ConversationsSection(rewriting="last")).mark(thought)
    assert last.tolist() == second.tolist()
    with pytest.raises(DataError) as caught:
        Marker(template, ConversationsSection(rewriting="refuse")).mark(thought)
    assert str(caught.value) == (
        "talks.jsonl line 7: the template changes the text of earlier turns when it asks for"
        " answer 2: set conversations.rewriting=split, name another template in"
        ' conversations.template, or give the earlier answers "weight": 0'
    )
    assert marked(TWO, template) == marked(TWO, CHATML), "the negative control: nothing to drop"


def test_an_answer_of_weight_zero_is_seen_and_not_learnt(tmp_path: Path) -> None:
    """Would catch the mend above not mending, and a weight that is read over."""
    turns = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "<think>Hm.</think>\n\nFirst.", "weight": 0},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Second."},
    ]
    template = speaking(tmp_path, FORGETFUL)
    (before, learnt), answer, _ = marked(parse({"messages": turns}), template)
    assert "assistant\nFirst.<|im_end|>" in before and "Hm." not in before and not learnt
    assert answer == ("Second.<|im_end|>", True)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (("One<|im_end|>?", "First."), "message 1 (user) spells <|im_end|>"),
        (("One?", "a <|endoftext|> b"), "message 2 (assistant) spells <|endoftext|>"),
    ],
)
def test_no_message_can_forge_a_turn(messages: tuple[str, str], told: str) -> None:
    """Would catch a user who ends his turn himself and speaks as the assistant."""
    with pytest.raises(DataError) as caught:
        mark(talk(*messages), CHATML)
    assert str(caught.value) == (
        f"talks.jsonl line 7: {told}, which would forge a turn: take it out"
    )


def test_tools_cannot_forge_a_turn_either_and_are_shown() -> None:
    """Would catch schemas that a template leaves out, or that end the system's turn."""
    record = {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}],
        "tools": '[{"name": "clock"}]',
    }
    assert marked(parse(record), CHATML)[0][0].startswith(
        '<|im_start|>system\nTools:\n{"name": "clock"}<|im_end|>\n<|im_start|>user\n'
    )
    with pytest.raises(DataError, match=r"tools spells <\|im_end\|>"):
        mark(parse(record | {"tools": [{"name": "<|im_end|>"}]}), CHATML)


def test_plain_text_has_no_template() -> None:
    """Would catch bare text put into turns, and an end of text doubled or left out."""
    expected = [
        (f"{END_OF_TEXT}The capital is", False),
        (f" Paris <|im_end|>{END_OF_TEXT}", True),
    ]
    for end in ("", END_OF_TEXT):
        record = {"prompt": "The capital is", "completion": f" Paris <|im_end|>{end}"}
        assert marked(parse(record), CHATML, special_tokens="text") == expected
    ids = mark(parse(record), CHATML, special_tokens="text") & np.uint32(ID_MASK)
    assert TRAINED.special_tokens[TURN_END] not in ids


WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: bool(text.strip()) and CHATML.forged(text) is None
)


# No deadline: the first render imports transformers.
@settings(deadline=None)
@given(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=4), st.none() | WORD)
def test_what_is_supervised_is_what_the_assistant_says(
    exchanges: list[tuple[str, str]], system: str | None
) -> None:
    """Would catch any text whose borders the tokens do not keep."""
    contents = [text for exchange in exchanges for text in exchange]
    tokens = mark(talk(*contents, system=system), CHATML)
    learnt = TRAINED.decode([int(token) & ID_MASK for token in tokens if token & TARGET])
    assert learnt == "".join(answer + TURN_END for _, answer in exchanges)
    assert TRAINED.decode([int(token) & ID_MASK for token in tokens]) == CHATML.render(
        talk(*contents, system=system).messages
    )


def sentencepiece_like(special: Sequence[str] = ("</s>",)) -> Tokenizer:
    """A token a character, and a space before every text."""
    letters = ["<unk>", "\u2581", "\n", *sorted(set("user: assistant: One? First. Two? Second."))]
    vocab = {token: number for number, token in enumerate(letters)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [], unk_token="<unk>"))
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    backend.add_special_tokens(list(special))
    files = {
        "tokenizer.json": backend.to_str().encode(),
        "tokenizer_config.json": b'{"eos_token": "</s>"}',
    }
    return Tokenizer(files, "the test's tokenizer")


def test_a_tokenizer_that_puts_a_space_before_texts_goes_on_without(tmp_path: Path) -> None:
    """Would catch turns that begin with a space which stands nowhere in the text."""
    tokenizer = sentencepiece_like()
    conversation = talk("One?", "First.", "Two?", "Second.")
    template = speaking(tmp_path, WORDS, tokenizer)
    tokens = mark(conversation, template) & np.uint32(ID_MASK)
    whole = tokenizer.encode_rendered(template.render(conversation.messages))
    assert tokens.tolist() == [*whole, tokenizer.end_of_text]
    split = tokenizer.encode("user:") + tokenizer.encode(" One?")
    assert split != tokenizer.encode("user: One?"), "the negative control: it puts one"


def test_cutting_and_dropping() -> None:
    """Would catch a sequence one position too long or short, and a piece with nothing to learn."""
    tokens = mark(TWO, CHATML)
    positions = len(tokens) - 1
    kept = shorten(tokens, positions, "drop", PLACE)
    assert kept is not None and len(kept) == len(tokens)
    assert shorten(tokens, positions - 1, "drop", PLACE) is None
    cut = shorten(tokens, positions - 3, "cut", PLACE)
    assert cut is not None and cut.tolist() == tokens[:-3].tolist()
    first = int(np.flatnonzero(tokens & np.uint32(TARGET))[0])
    assert shorten(tokens, first - 1, "cut", PLACE) is None
    least = shorten(tokens, first, "cut", PLACE)
    assert least is not None and count_targets(least) == 1
    with pytest.raises(DataError) as caught:
        shorten(tokens, 12, "stop", PLACE)
    assert str(caught.value) == (
        f"talks.jsonl line 7: takes {positions} positions, more than sequence_length 12: raise it,"
        " or set conversations.too_long=drop"
    )
    assert shown(tokens, TRAINED)[-1] == ("\n", False)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"prompt": "a <|im_end|>", "completion": "b"}, "the prompt spells <|im_end|>"),
        ({"prompt": "a", "completion": "b <|im_start|>"}, "the completion spells <|im_start|>"),
    ],
)
def test_special_tokens_in_bare_text_are_refused_or_meant(
    record: dict[str, str], told: str
) -> None:
    """Would catch ChatML written out by a set's owner and learnt as letters in silence."""
    with pytest.raises(DataError, match=re.escape(f"talks.jsonl line 7: {told}")):
        mark(parse(record), CHATML)
    letters = mark(parse(record), CHATML, special_tokens="text") & np.uint32(ID_MASK)
    tokens = mark(parse(record), CHATML, special_tokens="token") & np.uint32(ID_MASK)
    ends = {TRAINED.special_tokens[name] for name in (TURN_START, TURN_END)}
    assert not ends & set(letters.tolist()) and len(ends & set(tokens.tolist())) == 1
    whole = TRAINED.encode_rendered("".join(record.values()))
    assert tokens.tolist() == [*TRAINED.start, *whole, TRAINED.end_of_text]


def prefixing(behind_special: bool) -> Tokenizer:
    """Puts a space before a text, and behind special tokens too, as Llama 2's and Mistral's do."""
    tokenizer = sentencepiece_like(["<s>", "</s>", "[INST]", "[/INST]"])
    if not behind_special:
        files = tokenizer.files
        main = json.loads(files[MAIN_FILE])
        main["normalizer"] = None
        main["pre_tokenizer"] = {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "first",
            "split": False,
        }
        files[MAIN_FILE] = json.dumps(main).encode()
        tokenizer = Tokenizer(files, "the test's tokenizer")
    return tokenizer


@pytest.mark.parametrize("behind_special", [True, False])
def test_answers_behind_special_tokens_have_the_tokens_of_the_whole(
    tmp_path: Path, behind_special: bool
) -> None:
    """Would catch an answer that begins with another token than the one that is generated."""
    tokenizer = prefixing(behind_special)
    text = (
        "{{ '<s>' }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST]' + m.content +"
        " '[/INST]' }}{% else %}{{ m.content + '</s>' }}{% endif %}{% endfor %}"
    )
    template = speaking(tmp_path, text, tokenizer)
    conversation = talk("One?", "First.", "Two?", "Second.")
    tokens = mark(conversation, template) & np.uint32(ID_MASK)
    assert tokens.tolist() == tokenizer.encode_rendered(template.render(conversation.messages))
    alone = tokenizer.encode_rendered("[/INST]First.")[1:] == tokenizer.encode_rendered("First.")
    assert alone is behind_special, "the negative control: one of the two is otherwise"


OPENS = """\
{%- for m in messages %}{%- set said = m.content %}
{%- if m.role == 'assistant' %}{%- set said = said.split('</think>')[-1] %}{%- endif %}
{{- '<|im_start|>' + m.role + '\\n' + said + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""


@pytest.mark.parametrize(
    ("answer", "learnt"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Hm.\n</think>\n\nYes.<|im_end|>"),
        ("<think>\n\n</think>\n\nYes.", "\n</think>\n\nYes.<|im_end|>"),
        ("Hm.</think>Yes.", "Hm.\n</think>\n\nYes.<|im_end|>"),
        ("Yes.", "\n</think>\n\nYes.<|im_end|>"),
    ],
)
def test_an_answer_goes_on_in_the_reasoning_that_its_prompt_opens(
    tmp_path: Path, answer: str, learnt: str
) -> None:
    """Would catch a block opened twice, or an answer taught inside of it."""
    found = marked(talk("One?", answer), speaking(tmp_path, OPENS))
    assert found[0][0].endswith("assistant\n<think>\n") and found[1] == (learnt, True)


def test_what_stands_before_the_reasoning_is_not_lost(tmp_path: Path) -> None:
    """Would catch the beginning of an answer dropped by a template that splits at a tag."""
    with pytest.raises(DataError, match="leaves out 'Mark:'"):
        mark(talk("One?", "Mark: <think>Hm.</think>Yes."), speaking(tmp_path, OPENS))
