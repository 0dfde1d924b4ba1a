"""The faster splitter of words and sentences splits as datatrove's does."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.rules.texts import TEXTS
from trainer.corpus.rules import splitting
from trainer.corpus.rules.splitting import UNLEARNABLE, learn_common_words


@cache
def _untouched() -> Any:
    from datatrove.utils.word_tokenizers import SpaCyTokenizer

    splitter = SpaCyTokenizer("en")
    # spaCy takes this word the first time in a process, and fails on it from then on.
    splitter.word_tokenize(UNLEARNABLE)
    return splitter


@given(st.lists(TEXTS, max_size=5))
@settings(max_examples=200, deadline=None)
def test_what_the_splitter_remembers_changes_no_split(texts: list[str]) -> None:
    """Would catch words learned from one text being split otherwise in the next."""
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    learn_common_words()
    learning, forgetting = load_word_tokenizer("eng"), _untouched()
    for text in texts:
        if not any("\ud800" <= letter <= "\udfff" for letter in text):
            assert learning.word_tokenize(text) == forgetting.word_tokenize(text)
            assert learning.span_tokenize(text) == forgetting.span_tokenize(text)


def test_the_splitter_stops_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a vocabulary, and memory with it, that grows with the corpus."""
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    learn_common_words()
    splitter = load_word_tokenizer("eng")
    strings = splitter.tokenizer.vocab.strings
    before = len(strings)
    splitter.word_tokenize("onewordthatisnew")
    known = len(strings)
    assert known > before, "negative control: it does learn"
    monkeypatch.setattr(splitting, "WORDS_LEARNED", known)
    splitter.word_tokenize(" ".join(f"word{number}thatisnew" for number in range(1000)))
    assert len(strings) == known
