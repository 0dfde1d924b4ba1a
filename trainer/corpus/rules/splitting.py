"""Words and sentences by datatrove's English splitter, with a cache of words across texts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

WORDS_LEARNED = 100_000
"""Words that the splitter caches: enough for common prose, at 50 MB a process."""
UNLEARNABLE = "IS_ALPHA"
"""A word on which spaCy without its cache fails from the second time on, so that datatrove removes
it from the text. Texts with it never use the cache, and so are split as datatrove splits them."""


def words_of(text: str) -> list[str]:
    """The words of a text, including punctuation marks; datatrove caches those of five texts.

    Raises UnicodeEncodeError for a text with a lone surrogate.
    """
    from datatrove.utils.text import split_into_words

    learn_common_words()
    return list(split_into_words(text))


def sentence_count(text: str) -> int:
    """The number of sentences; raises as `words_of`."""
    from datatrove.utils.text import split_into_sentences

    learn_common_words()
    return len(split_into_sentences(text))


@cache
def learn_common_words() -> None:
    """Let this process's splitter cache up to WORDS_LEARNED words across texts.

    datatrove clears the cache after every text; so do texts here once that many are cached.
    """
    from datatrove.utils.typeshelper import Languages
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    splitter = load_word_tokenizer(Languages.english)
    # The first failure is provoked here, so that no text depends on being the first one.
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
