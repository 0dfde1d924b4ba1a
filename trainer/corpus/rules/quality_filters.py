"""datatrove's quality filters, built from the recipe so that every threshold means what it says.

In datatrove a threshold of zero turns some of the checks off; in the recipe it is the strictest
limit there is. ABOVE_ZERO stands in for it: no share that is not zero is as small.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from trainer.recipe.curation import C4Quality, FineWebQuality, GopherQuality, GopherRepetition

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


ABOVE_ZERO = math.ulp(0.0)
TOP_N_GRAMS = (2, 3, 4)
DUPLICATE_N_GRAMS = (5, 6, 7, 8, 9, 10)


def _limit(value: float) -> float:
    """A largest value allowed, as datatrove takes it."""
    return value or ABOVE_ZERO


@cache
def filter_of(section: Any) -> Any:
    """The filter that a section of the recipe describes; one a process."""
    learn_common_words()
    if isinstance(section, C4Quality):
        return c4_filter(section, section.minimum_sentences)
    build: dict[type, Callable[[Any], Any]] = {
        GopherRepetition: _gopher_repetition,
        GopherQuality: _gopher_quality,
        FineWebQuality: _fineweb,
    }
    return build[type(section)](section)


def _gopher_repetition(section: GopherRepetition) -> Any:
    from datatrove.pipeline.filters import GopherRepetitionFilter

    return GopherRepetitionFilter(
        dup_line_frac=_limit(section.duplicate_lines),
        dup_para_frac=_limit(section.duplicate_paragraphs),
        dup_line_char_frac=_limit(section.duplicate_line_characters),
        dup_para_char_frac=_limit(section.duplicate_paragraph_characters),
        top_n_grams=tuple((n, getattr(section, f"top_{n}_gram")) for n in TOP_N_GRAMS),
        dup_n_grams=tuple((n, getattr(section, f"duplicate_{n}_grams")) for n in DUPLICATE_N_GRAMS),
    )


def _gopher_quality(section: GopherQuality) -> Any:
    from datatrove.pipeline.filters import GopherQualityFilter

    return GopherQualityFilter(
        min_doc_words=section.minimum_words,
        max_doc_words=section.maximum_words,
        min_avg_word_length=section.minimum_word_length,
        max_avg_word_length=_limit(section.maximum_word_length),
        max_symbol_word_ratio=_limit(section.symbols_a_word),
        max_bullet_lines_ratio=_limit(section.bullet_lines),
        max_ellipsis_lines_ratio=_limit(section.ellipsis_lines),
        max_non_alpha_words_ratio=section.alphabetic_words,
        min_stop_words=section.stop_words,
    )


@cache
def c4_filter(section: C4Quality, minimum_sentences: int) -> Any:
    """The C4QualityFilter with these settings, and `lines`: a Counter of the lines that it
    removed, by datatrove's name for the reason, since it was last cleared.
    """
    from datatrove.pipeline.filters import C4QualityFilter

    class CountingC4Filter(C4QualityFilter):
        def stat_update(self, *labels: str, value: int = 1, unit: str | None = None) -> None:
            """Count; datatrove's own statistics, which nobody reads here, are left out."""
            for label in labels:
                self.lines[label] += value

    found = CountingC4Filter(
        remove_citations=section.citations,
        filter_no_terminal_punct=section.terminal_punctuation,
        # Where any number will do, datatrove need not count them.
        min_num_sentences=minimum_sentences or -1,
        min_words_per_line=section.minimum_words_a_line,
        max_word_length=section.maximum_word_length,
        filter_lorem_ipsum=section.lorem_ipsum,
        filter_javascript=section.javascript,
        filter_curly_bracket=section.curly_bracket,
        filter_policy=section.policy,
    )
    found.lines = Counter()
    return found


def _fineweb(section: FineWebQuality) -> Any:
    from datatrove.pipeline.filters import FineWebQualityFilter

    return FineWebQualityFilter(
        line_punct_thr=section.punctuated_lines,
        short_line_thr=section.short_lines,
        short_line_length=section.short_line_characters,
        char_duplicates_ratio=section.duplicate_line_characters,
        new_line_ratio=section.newlines_a_word,
    )
