"""The tokenizer of a GGUF file: transformers' own conversion is the oracle, where it is right."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from gguf import TokenType

from tests.gguf.models import TOKENIZER, add_byte_level, network, write_gguf
from trainer.data.tokenizer import GENERATION_FILE, MAIN_FILE, Tokenizer
from trainer.errors import CheckpointError
from trainer.gguf.header import read_header
from trainer.gguf.metadata import Metadata
from trainer.gguf.pre_tokenizers import SPLITTINGS, pre_tokenizer
from trainer.gguf.vocabulary import read_tokenizer
from trainer.gguf.vocabulary_writing import add_tokenizer

TEXTS = [
    *("the cat's on the mat, and THE dog'll run!", "  two  spaces\n\n\tlines \r\n", ""),
    *("naïve 東京 \U0001f642 12345 3.14", "<s>the</s> cat <0x0A> ▁ [INST]"),
]
PIECES = ["▁", "t", "h", "e", "c", "a", "s", "n", "d", "o", "m", "<", ">", "/", "[", "]", "s>"]
PIECES += ["▁t", "he", "▁the", "▁c", "at", "▁cat", "▁cats", "an", "and", "▁and", "▁▁", "▁▁▁▁"]


def add_sentencepiece(prefix: bool = True) -> Any:
    """A writer of a vocabulary as Llama's: scores fall in the order of the pieces."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, "[INST]"]
    types = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2, *[TokenType.BYTE] * 256]
    types += [*[TokenType.NORMAL] * len(PIECES), TokenType.USER_DEFINED]

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(names)
        writer.add_token_types(types)
        writer.add_token_scores([0.0] * 259 + [-float(n) for n in range(len(PIECES))] + [0.0])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        if not prefix:
            writer.add_add_space_prefix(False)
        writer.add_chat_template("{{ bos_token }}{{ messages[0].content }}")

    add.size = len(names)  # type: ignore[attr-defined]
    return add


def read(path: Path) -> Tokenizer:
    return read_tokenizer(Metadata(read_header(path).metadata, path))


def written(
    folder: Path, add: Any, rows: int = TOKENIZER.size, architecture: str = "llama"
) -> Path:
    path = folder / "model.gguf"
    write_gguf(path, network("llama", num_hidden_layers=1, vocab_size=rows), architecture, add=add)
    return path


def theirs(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "tekken", "gpt-4o"])
def test_byte_level_texts_become_the_tokens_of_transformers(pre: str, tmp_path: Path) -> None:
    """Catches another splitting, a token that is special only there, and a lost id of the end."""
    path = written(tmp_path, lambda writer: add_byte_level(writer, pre))
    ours, peer = read(path), theirs(path)
    for text in TEXTS:
        assert ours.encode(text) == peer.encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
        rendered = f"<|im_start|>user\n{text}<|im_end|>"
        assert ours.encode_rendered(rendered) == peer.encode(rendered, add_special_tokens=False)
        assert ours.decode(ours.encode(text)) == text
    assert ours.ends == {peer.eos_token_id} and ours.start == ()


def test_splittings_are_those_of_transformers_where_it_knows_them() -> None:
    """Catches a pattern that differs in a letter, which few texts show."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    known = SPLITTINGS.keys() & GGUF_PRE_TOKENIZER_SPLITS.keys()
    assert len(known) > 15
    for name in known:
        assert SPLITTINGS[name].patterns == (GGUF_PRE_TOKENIZER_SPLITS[name],), name


@pytest.mark.parametrize(("pre", "digits"), [("smollm", 4), ("gpt-2", 1), ("llama-bpe", 2)])
def test_digits_are_split_as_the_file_says(pre: str, digits: int) -> None:
    """Catches what transformers 5.23 does with names that it does not know: as GPT-2 does."""
    split = pre_tokenizer(SPLITTINGS[pre])
    assert len(split.pre_tokenize_str("1999")) == digits


def test_an_unknown_splitting_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Catches tokens that silently are other ones than the model learned from."""
    path = written(tmp_path, lambda writer: add_byte_level(writer, "newest"))
    read(path)
    assert "tokenizer.ggml.pre is 'newest', a splitting of texts that is not known" in caplog.text


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_texts_become_the_tokens_of_transformers(
    prefix: bool, tmp_path: Path
) -> None:
    """Catches scores that become merges in another order, and a space before every text."""
    add = add_sentencepiece(prefix)
    ours = read(path := written(tmp_path, add, add.size))
    assert ours.start == (1,) and ours.ends == {2} and ours.chat_template
    assert ours.encode("<s>the</s>")[:3] != [1] and 1 not in ours.encode("<s>"), "forged"
    assert ours.encode_rendered("<s>[INST]")[0] == 1
    if not prefix:  # which transformers 5.23 leaves unread
        assert ours.decode(ours.encode("the cat")) == "the cat"
        assert ours.encode("the")[0] != ours.encode(" the")[0]
        return
    peer = theirs(path)
    for text in TEXTS[:4]:
        ids = ours.encode(text)
        assert ids == peer.encode(text, add_special_tokens=False), text
        assert ours.decode(ids) == peer.decode(ids)


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_vocabulary_comes_back_as_it_was_written(
    prefix: bool, tmp_path: Path
) -> None:
    """Catches merges whose order is lost where they become scores, and ids that move."""
    add = add_sentencepiece(prefix)
    ours = read(written(tmp_path, add, add.size))
    again = tmp_path / "again.gguf"
    writer = gguf.GGUFWriter(again, "llama")
    add_tokenizer(writer, ours, add.size + 2)
    writer.add_context_length(64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    back = read(again)
    one, two = (json.loads(it.files[MAIN_FILE])["model"]["merges"] for it in (ours, back))
    assert one == two and back.size == add.size + 2
    for text in TEXTS:
        assert back.encode(text) == ours.encode(text)
        assert back.encode_rendered(text) == ours.encode_rendered(text)
    assert (back.start, back.ends, back.chat_template) == (
        ours.start,
        ours.ends,
        ours.chat_template,
    )


def test_what_a_file_proposes_for_sampling_is_a_generation_config(tmp_path: Path) -> None:
    """Catches 0.6 that becomes 0.6000000238418579, and a -1 that transformers refuses."""
    add = add_sentencepiece()

    def proposing(writer: gguf.GGUFWriter) -> None:
        add(writer)
        writer.add_float32("general.sampling.temp", 0.6)
        writer.add_int32("general.sampling.top_k", -1)

    generation = json.loads(read(written(tmp_path, proposing, add.size)).files[GENERATION_FILE])
    assert (generation["temperature"], generation["top_k"]) == (0.6, 0)
    assert isinstance(generation["top_k"], int) and "top_p" not in generation


def changed(**keys: Any) -> Tokenizer:
    """Our own tokenizer with another tokenizer.json."""
    content = json.loads(TOKENIZER.files[MAIN_FILE]) | keys
    return Tokenizer(TOKENIZER.files | {MAIN_FILE: json.dumps(content).encode()}, "changed")


STRIPPING = json.loads(TOKENIZER.files[MAIN_FILE])["added_tokens"]
STRIPPING = [STRIPPING[0] | {"lstrip": True}, *STRIPPING[1:]]
SPLIT = json.loads(tokenizers.pre_tokenizers.Whitespace().__getstate__())
MODEL = json.loads(TOKENIZER.files[MAIN_FILE])["model"]
ENDS = json.dumps({"eos_token_id": [1, 2, 3, 4]}).encode()


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (changed(added_tokens=STRIPPING), "with lstrip, which GGUF cannot say"),
        (changed(pre_tokenizer=SPLIT), "in a way that llama.cpp has no name for"),
        (changed(normalizer={"type": "Lowercase"}), "in a way that llama.cpp has no name for"),
        (changed(model=MODEL | {"end_of_word_suffix": "x"}), "has a end_of_word_suffix"),
        (Tokenizer(TOKENIZER.files | {GENERATION_FILE: ENDS}, "ends"), "ends texts at 5 tokens"),
    ],
)
def test_a_tokenizer_that_gguf_cannot_say_is_refused(tokenizer: Tokenizer, words: str) -> None:
    """Catches a file whose reader makes other tokens of the same text."""
    with pytest.raises(CheckpointError, match=words):
        add_tokenizer(gguf.GGUFWriter(None, "llama"), tokenizer, tokenizer.size)
    with pytest.raises(CheckpointError, match="tokens, and the embedding 9 rows"):
        add_tokenizer(gguf.GGUFWriter(None, "llama"), tokenizer, 9)
