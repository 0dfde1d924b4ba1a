"""Looked-up pre-tokens: the ids of the tokenizers library, for every published way of cutting."""

import itertools
import random

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

from trainer.data import pre_tokens
from trainer.data.pre_tokens import PreTokenEncoder
from trainer.data.tokenizer import Tokenizer, train_tokenizer

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + END
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*{CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + END
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*" + END
)


def split(expression: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer that cuts by it and keeps every piece."""
    return pre_tokenizers.Split(Regex(expression), "isolated")


def sequence(*steps: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """These steps, and the bytes as ByteLevel writes them."""
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(False, use_regex=False)])


CUTTERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]
    ),
    "llama3": sequence(split(LLAMA3)),
    "qwen2": sequence(split(LLAMA3.replace("{1,3}", ""))),
    "o200k": sequence(split(O200K)),
    "deepseek": sequence(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK)
    ),
}
WORDS = ["It's", "I'LL", " the", " HeRe", "naïve ", "1234", "12", "…", "“so”", " — ", "é", "ǅ"]
SPACES = [" ", "  ", "\n", "\r\n", "\t", "\x0b", "\x0c", "\x1c", "\x00", "\x85", "\xa0", "\u2028"]
MARKS = [
    "'",
    "\u017f",
    "²",
    "½",
    "世界",
    "🙂",
    "e\u0301",
    "\u200d",
    "K",
    "/",
    "...",
    "!\n",
    "<|",
    "ª",
]
ADDED = ["<|im_end|>", "<think>", "<|im_start|>"]
TEXTS = ["It's 12345 here, I'LL see 'The End'…\n\n  naïve “words”\t1/2 — so!\r\n"] * 20


def backend(name: str, **changed: object) -> tokenizers.Tokenizer:
    """A small tokenizer that cuts so, with special and other added tokens."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = CUTTERS[name]
    made.normalizer = normalizers.NFC() if name == "qwen2" else None
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    made.add_special_tokens(
        [AddedToken(token, normalized=False) for token in ("<|im_start|>", "<|im_end|>")]
    )
    made.add_tokens([AddedToken("<think>", normalized=False, **changed)])
    return made


BACKENDS = {name: backend(name) for name in CUTTERS}


def assert_same(made: tokenizers.Tokenizer, texts: list[str], least: float) -> None:
    """The ids of the library for every text, of which so large a part is looked up."""
    ours = PreTokenEncoder.of(made)
    assert ours is not None
    found = [ours.encode(text) for text in texts]
    theirs = made.encode_batch(texts, add_special_tokens=False)
    wrong = [
        text
        for text, ids, right in zip(texts, found, theirs, strict=True)
        if ids is not None and ids != right.ids
    ]
    assert wrong == []
    assert sum(ids is not None for ids in found) >= least * len(texts)


@pytest.mark.parametrize("name", CUTTERS)
def test_every_short_text_has_the_ids_of_the_library(name: str) -> None:
    """Would catch an alternative in another order, or a look ahead that sees another end."""
    letters = ["a", "B", "s", "É", "1", " ", "\n", "\t", "'", ".", "/"]
    texts = ["".join(some) for some in itertools.product(letters, repeat=4)]
    assert_same(BACKENDS[name], texts, least=1)


@pytest.mark.parametrize("name", CUTTERS)
def test_longer_texts_of_all_kinds_have_the_ids_of_the_library(name: str) -> None:
    """Would catch a character that two engines count to different classes."""
    pick = random.Random(0)
    usual = [*WORDS[:-1], " ", "\n", "\t"]
    every = [*WORDS, *SPACES, *MARKS, *ADDED]
    assert_same(BACKENDS[name], ["".join(pick.choices(usual, k=12)) for _ in range(1000)], 1)
    assert_same(BACKENDS[name], ["".join(pick.choices(every, k=6)) for _ in range(3000)], 0.05)


@pytest.mark.parametrize("name", CUTTERS)
@given(text=st.text(max_size=12))
def test_any_text_has_the_ids_of_the_library_or_none(name: str, text: str) -> None:
    """Would catch a text taken for one that is known."""
    assert_same(BACKENDS[name], [text], least=0)


def test_every_character_that_is_known_has_the_ids_of_the_library_beside_every_class() -> None:
    """Would catch a character whose category this Python and the library see differently."""
    beside = ["a", "1", " ", "'", "\n"]
    texts = [f"{one}{it}{two}" for it in pre_tokens._KNOWN for one in beside for two in beside]
    for made in BACKENDS.values():
        assert_same(made, texts, least=1)


def test_special_tokens_are_parsed_where_the_library_parses_them() -> None:
    """Would catch a document whose text forges the end of a turn."""
    made = backend("llama3")
    texts = ["a<|im_end|>b", "<think> so", "x<|im_start|><|im_end|>", "<|im_en", "<thi<think>nk>"]
    assert_same(made, texts, least=1)
    made.encode_special_tokens = True
    ours = PreTokenEncoder.of(made)
    assert ours is not None
    assert [ours.encode(text) is None for text in texts] == [True, False, True, False, False]
    assert_same(made, texts, least=0)


def test_tokens_of_the_normalized_text_come_second() -> None:
    """Would catch the longer of two tokens taken where the library looks for the other first."""
    made = backend("qwen2")
    made.add_tokens([AddedToken("ab<think>", normalized=True), AddedToken("cd", normalized=True)])
    ours = PreTokenEncoder.of(made)
    assert ours is not None and ours.encode("ab<think>") is None and ours.encode("cd") is None
    assert_same(made, ["ab<think>", "acd", "a<think>b", "<|im_end|>"], least=0.5)


def test_added_tokens_that_take_white_space_or_whole_words_are_left_to_the_library() -> None:
    """Would catch the space behind Phi's end of turn being kept."""
    for changed in ({"rstrip": True}, {"lstrip": True}, {"single_word": True}):
        made = backend("gpt2", **changed)
        ours = PreTokenEncoder.of(made)
        assert ours is not None and ours.encode("a <think> b") is None
        assert_same(made, ["a <think> b", "a<think>b"], least=0)


@pytest.mark.parametrize(
    "expression",
    [
        r"\p{L}++|\s+|\S",
        r"(?<= )\p{L}+|\s+|\S",
        r"^\p{L}+|\s+|\S",
        r"[\p{L}&&[a-z]]+|\s+|\S",
        r"(\p{L})\1|\s+|\S",
        r"\w+|\s+|\S",
        r"\p{L}*",
        r"[\p{Han}]+|\s+|\S",
        r"(?i:[\p{L}])|\s+|\S",
    ],
)
def test_expressions_that_another_engine_may_read_otherwise_are_left_alone(expression: str) -> None:
    """Would catch a possessive repeat, an anchor at a line or a set within a set read wrong."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = sequence(split(expression))
    assert PreTokenEncoder.of(made) is None


def test_what_stands_between_matches_is_a_piece_too() -> None:
    """Would catch letters lost where an expression does not cover a text."""
    made = backend("gpt2")
    made.pre_tokenizer = sequence(split(r"\p{L}+"))
    assert_same(made, ["abc", "abc 12", " 12  ab", "..", "It's a <think> 12"], least=1)


def test_tokenizers_of_other_kinds_are_left_to_the_library() -> None:
    """Would catch a prefix space, a normalizer or random merges passed over."""
    assert PreTokenEncoder.of(BACKENDS["gpt2"]) is not None
    kinds = [backend("gpt2") for _ in range(4)]
    kinds[0].pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    kinds[1].normalizer = normalizers.NFKC()
    kinds[2].pre_tokenizer = pre_tokenizers.Metaspace()
    kinds[3].model.dropout = 0.5
    assert [PreTokenEncoder.of(kind) for kind in kinds] == [None] * 4


def test_a_batch_is_the_same_on_few_cores_and_on_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a set or a corpus that depends on the machine which built it."""
    tokenizer = train_tokenizer(TEXTS, 340)
    texts = [*TEXTS[:2], "世界 a", "", "<|im_end|>a", "naïve ½", "x" * 3000]
    found = []
    for cores, looked_up in (("2", True), ("64", False)):
        monkeypatch.setenv("RAYON_NUM_THREADS", cores)
        one = Tokenizer(tokenizer.files, "here")
        found.append((one.encode_batch(texts), one.encode_rendered_batch(texts)))
        assert bool(one._pre_tokens and one._pre_tokens._held) is looked_up
    assert found[0] == found[1]


def test_what_is_held_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch memory that grows with a corpus."""
    monkeypatch.setattr(pre_tokens, "_PIECES_HELD", 50)
    ours = PreTokenEncoder.of(BACKENDS["gpt2"])
    assert ours is not None
    texts = [f"{'ab'[n % 2] * (n % 90 + 1)} {'cd'[n % 2] * (n % 70)}" for n in range(300)]
    assert_same(BACKENDS["gpt2"], texts, least=1)
    for text in texts:
        ours.encode(text)
        assert len(ours._held) <= 50
    assert max(map(len, ours._held)) <= pre_tokens._LONGEST_HELD
