"""The same tokens and masks as TRL's trainer makes of the same examples.

TRL encodes prompt and answer as one text where we encode each by itself, so the examples are such
that no token spans the border, and it also counts the line break behind an end of turn as said by
the assistant, where no template says otherwise.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from tests.conversations.talks import (
    CLOSING,
    GENERATION,
    HEADERS,
    INST,
    LLAMA,
    PLACE,
    TRAINED,
    mark,
    pair_tokens,
    parse,
    speaking,
)
from tests.conversations.test_preferences import segments
from trainer.conversations.marking import FlaggedTokens
from trainer.conversations.pairs import pair_of
from trainer.conversations.records import Example
from trainer.conversations.template import CHATML, ChatTemplate
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.data.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

USER = {"role": "user", "content": "What is the capital of France?"}
PARIS = {"role": "assistant", "content": "Paris, of course."}
ROME = {"role": "assistant", "content": "Rome."}
TURNS = [USER, PARIS, {"role": "user", "content": "What of it?"}, ROME]


def settings(kind: Any, folder: Path, **more: Any) -> Any:
    return kind(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", max_length=None, **more
    )


def model() -> LlamaForCausalLM:
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=400, num_attention_heads=1, **small))


def as_trl(template: ChatTemplate, folder: Path, record: dict[str, Any], **more: Any) -> Any:
    """The ids and labels (-100: not to predict) that TRL trains on."""
    template.tokenizer.save(folder / "tokenizer")
    trainer = SFTTrainer(
        model(),
        settings(SFTConfig, folder, **more),
        train_dataset=Dataset.from_list([record]),
        processing_class=AutoTokenizer.from_pretrained(folder / "tokenizer"),
    )
    return trainer.train_dataset[0]


def labels(tokens: FlaggedTokens) -> list[int]:
    ids = (tokens & np.uint32(ID_MASK)).astype(np.int64)
    return np.where(tokens & np.uint32(TARGET), ids, -100).tolist()


def ids(tokens: FlaggedTokens) -> list[int]:
    return (tokens & np.uint32(ID_MASK)).tolist()


def test_several_turns_are_marked_as_trl_marks_them(tmp_path: Path) -> None:
    """Would catch a mask of several turns that differs from that of generation blocks."""
    template = speaking(tmp_path, GENERATION)
    record = {"messages": [{"role": "system", "content": "Be brief."}, *TURNS]}
    theirs = as_trl(template, tmp_path, record, assistant_only_loss=True)
    ours = mark(parse(record), template)
    assert theirs["input_ids"] == ids(ours)
    assert theirs["labels"] == labels(ours)


@pytest.mark.parametrize(
    ("text", "tokenizer", "behind"),
    [(CHATML, TRAINED, 1), (HEADERS, LLAMA, 0), (INST, TRAINED, 0), (CLOSING, TRAINED, 2)],
    ids=["chatml", "headers", "inst", "closing"],
)
def test_a_prompt_and_its_completion_are_marked_as_trl_marks_them(
    tmp_path: Path, text: str, tokenizer: Tokenizer, behind: int
) -> None:
    """Would catch a prompt rendered otherwise, or answers of the prompt that are learnt.

    `behind` tokens follow the end of the turn.
    """
    template = speaking(tmp_path, text, tokenizer)
    record = {"prompt": TURNS[:-1], "completion": [ROME]}
    theirs = as_trl(template, tmp_path, record)
    ours = mark(parse(record), template)
    end = len(ours) - behind
    assert theirs["input_ids"] == ids(ours)
    assert theirs["labels"][:end] == labels(ours)[:end]
    assert theirs["labels"][end - 1] == template.turn_end
    assert labels(ours)[end:] == [-100] * behind


def test_plain_text_is_marked_as_trl_marks_it(tmp_path: Path) -> None:
    """Would catch a begin or an end of text that one of us leaves out."""
    record = {"prompt": "What is the capital of France?", "completion": " Paris, of course."}
    template = ChatTemplate(TRAINED)
    theirs, ours = as_trl(template, tmp_path, record), mark(parse(record), template)
    assert theirs["input_ids"] == ids(ours)
    assert theirs["labels"] == labels(ours)


def test_a_pair_is_marked_as_trl_marks_it(tmp_path: Path) -> None:
    """Would catch a preference over other tokens than the answers'."""
    template = speaking(tmp_path, HEADERS, LLAMA)
    record = {"prompt": TURNS[:-1], "chosen": [ROME], "rejected": [PARIS]}
    template.tokenizer.save(tmp_path / "tokenizer")
    trainer = DPOTrainer(
        model(),
        ref_model=model(),
        args=settings(DPOConfig, tmp_path),
        train_dataset=Dataset.from_list([record]),
        processing_class=AutoTokenizer.from_pretrained(tmp_path / "tokenizer"),
    )
    theirs = trainer.train_dataset[0]
    sides = segments(pair_tokens(pair_of(Example(record, PLACE)), template))
    for side, name in zip(sides, ("chosen_ids", "rejected_ids"), strict=True):
        assert ids(side) == theirs["prompt_ids"] + theirs[name]
        assert [label for label in labels(side) if label != -100] == theirs[name]
