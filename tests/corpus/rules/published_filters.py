"""datatrove's own filters with a recipe's limits, and what they say of a text: the oracle.

Gopher's shares of words are datatrove's too, over the words between white space: its filter, given
these words, decides on them, and given its own words on all else (`published`).

In datatrove a threshold of zero turns some checks off; in the recipe it is the strictest limit
there is. ABOVE_ZERO stands in for it: no share that is not zero is as small.
"""

import math
from typing import Any
from unittest import mock

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    gopher_quality_filter,
)

from trainer.recipe.curation import C4Quality, FineWebQuality, GopherQuality, GopherRepetition

FILTERS = {
    GopherRepetition: GopherRepetitionFilter,
    GopherQuality: GopherQualityFilter,
    C4Quality: C4QualityFilter,
    FineWebQuality: FineWebQualityFilter,
}
TOP_N_GRAMS = (2, 3, 4)
DUPLICATE_N_GRAMS = (5, 6, 7, 8, 9, 10)
ABOVE_ZERO = math.ulp(0.0)
REASONS: dict[type, dict[str, str]] = {
    GopherRepetition: {
        "dup_para_frac": "duplicate paragraphs",
        "dup_para_char_frac": "duplicate paragraph characters",
        "dup_line_frac": "duplicate lines",
        "dup_line_char_frac": "duplicate line characters",
        **{f"top_{n}_gram": f"top {n}-gram" for n in TOP_N_GRAMS},
        **{f"duplicated_{n}_n_grams": f"duplicate {n}-grams" for n in DUPLICATE_N_GRAMS},
    },
    GopherQuality: {
        "gopher_short_doc": "too few words",
        "gopher_long_doc": "too many words",
        "gopher_below_avg_threshold": "short words",
        "gopher_above_avg_threshold": "long words",
        "gopher_too_many_hashes": "hashes",
        "gopher_too_many_ellipsis": "ellipses",
        "gopher_too_many_bullets": "bullet lines",
        "gopher_too_many_end_ellipsis": "lines that trail off",
        "gopher_below_alpha_threshold": "too few alphabetic words",
        "gopher_enough_stop_words": "too few stop words",
    },
    C4Quality: {
        "lorem_ipsum": "lorem ipsum",
        "curly_bracket": "curly brackets",
        "too_few_sentences": "too few sentences",
    },
    FineWebQuality: {
        "line_punct_ratio": "too few punctuated lines",
        "short_line_ratio": "short lines",
        "char_dup_ratio": "duplicate line characters",
        "list_ratio": "line breaks",
    },
}
"""By section, the audit's word for each of datatrove's reasons but "empty"."""


SHARES_OF_WORDS = ("hashes", "ellipses", "too few alphabetic words")
"""Gopher's reasons that are of the words between white space."""
NO_LIMIT = {"symbols_a_word": 1e9, "alphabetic_words": 0.0}
ONLY_SHARES = {
    "minimum_words": 0,
    "maximum_words": 10**9,
    "minimum_word_length": 0.0,
    "maximum_word_length": 1e9,
    "bullet_lines": 1.0,
    "ellipsis_lines": 1.0,
    "stop_words": 0,
}


def published(section: Any, text: str) -> tuple[str | None, str | None]:
    """(the text that the filter passes, the audit's word for why it drops it); one is None."""
    if not isinstance(section, GopherQuality):
        return _published(section, text)
    by_its_words = _published(section.model_copy(update=NO_LIMIT), text)
    by_spaces = text, None
    if text.split():
        with mock.patch.object(gopher_quality_filter, "split_into_words", _spaced):
            by_spaces = _published(section.model_copy(update=ONLY_SHARES), text)
    order = [*REASONS[GopherQuality].values()]
    reasons = [reason for _, reason in (by_its_words, by_spaces) if reason is not None]
    unknown = [reason for reason in reasons if reason not in order]
    first = unknown or sorted(reasons, key=order.index)
    return (None, first[0]) if first else by_its_words


def published_alone(section: Any, text: str) -> str | None:
    """The audit's word for why datatrove's filter, by its own words, drops a text."""
    return _published(section, text)[1]


def _spaced(text: str, language: str) -> list[str]:
    return text.split()


def _published(section: Any, text: str) -> tuple[str | None, str | None]:
    document = Document(text=text, id="")
    try:
        result = _filter_of(section).filter(document)
    except ZeroDivisionError:
        return None, "no words"
    except UnicodeEncodeError:
        return None, "not Unicode"
    if result is True:
        return (document.text, None) if document.text else (None, "no text")
    return None, "no text" if result[1] == "empty" else REASONS[type(section)][result[1]]


def _filter_of(section: Any) -> Any:
    if isinstance(section, GopherRepetition):
        return GopherRepetitionFilter(
            dup_line_frac=section.duplicate_lines or ABOVE_ZERO,
            dup_para_frac=section.duplicate_paragraphs or ABOVE_ZERO,
            dup_line_char_frac=section.duplicate_line_characters or ABOVE_ZERO,
            dup_para_char_frac=section.duplicate_paragraph_characters or ABOVE_ZERO,
            top_n_grams=tuple((n, getattr(section, f"top_{n}_gram")) for n in TOP_N_GRAMS),
            dup_n_grams=tuple(
                (n, getattr(section, f"duplicate_{n}_grams")) for n in DUPLICATE_N_GRAMS
            ),
        )
    if isinstance(section, GopherQuality):
        return GopherQualityFilter(
            min_doc_words=section.minimum_words,
            max_doc_words=section.maximum_words,
            min_avg_word_length=section.minimum_word_length,
            max_avg_word_length=section.maximum_word_length or ABOVE_ZERO,
            max_symbol_word_ratio=section.symbols_a_word or ABOVE_ZERO,
            max_bullet_lines_ratio=section.bullet_lines or ABOVE_ZERO,
            max_ellipsis_lines_ratio=section.ellipsis_lines or ABOVE_ZERO,
            max_non_alpha_words_ratio=section.alphabetic_words,
            min_stop_words=section.stop_words,
        )
    if isinstance(section, C4Quality):
        return C4QualityFilter(
            remove_citations=section.citations,
            filter_no_terminal_punct=section.terminal_punctuation,
            # Where any number will do, datatrove need not count them.
            min_num_sentences=section.minimum_sentences or -1,
            min_words_per_line=section.minimum_words_a_line,
            max_word_length=section.maximum_word_length,
            filter_lorem_ipsum=section.lorem_ipsum,
            filter_javascript=section.javascript,
            filter_curly_bracket=section.curly_bracket,
            filter_policy=section.policy,
        )
    return FineWebQualityFilter(
        line_punct_thr=section.punctuated_lines,
        short_line_thr=section.short_lines,
        short_line_length=section.short_line_characters,
        char_duplicates_ratio=section.duplicate_line_characters,
        new_line_ratio=section.newlines_a_word,
    )
