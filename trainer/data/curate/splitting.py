"""How datatrove's filters split English text into words and sentences, made faster and no
different.

datatrove wraps spaCy, and lets it forget every word behind each text, so that its vocabulary does
not grow without bound; then most of the time goes into learning `the` anew. Here the words met
first, which are the common ones, are learned for good, and only the others are forgotten.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

WORDS_LEARNED = 100_000
"""Words that are kept: all that common prose has need of. A process is 50 MB larger for them."""
UNLEARNABLE = "IS_ALPHA"
"""A word that spaCy, where it is to forget, fails on from the second time on, whereupon datatrove
takes it out of the text. So as to split as datatrove does, such texts always go the slow way."""


@cache
def learn_common_words() -> None:
    """Let the splitter of this process keep what it learns, up to WORDS_LEARNED words; later words
    are forgotten behind each text, as without it.
    """
    from datatrove.utils.typeshelper import Languages
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    splitter = load_word_tokenizer(Languages.english)
    # The first time is now, lest a text be split otherwise for being the first.
    splitter.word_tokenize(UNLEARNABLE)
    spacy = splitter.tokenizer
    forgetting = spacy.memory_zone
    learns = False

    @contextmanager
    def memory_zone(*arguments: Any) -> Iterator[Any]:
        if learns:
            yield None
        else:
            with forgetting(*arguments) as pool:
                yield pool

    def deciding(split: Callable[[str], Any]) -> Callable[[str], Any]:
        def decide_and_split(text: str) -> Any:
            nonlocal learns
            learns = UNLEARNABLE not in text and len(spacy.vocab.strings) < WORDS_LEARNED
            return split(text)

        return decide_and_split

    spacy.memory_zone = memory_zone
    for name in ("word_tokenize", "sent_tokenize", "span_tokenize"):
        setattr(splitter, name, deciding(getattr(splitter, name)))
