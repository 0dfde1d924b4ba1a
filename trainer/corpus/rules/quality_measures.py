"""What a dropped document measured, which datatrove does not tell: by its name for the reason.

Every measure is computed as the filter computes it, with datatrove's own functions, and only for
documents that were dropped.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.corpus.rules.quality_filters import (
    DUPLICATE_N_GRAMS,
    TOP_N_GRAMS,
    c4_filter,
    filter_of,
)
from trainer.recipe.curation import C4Quality, FineWebQuality, GopherQuality, GopherRepetition


@dataclass(frozen=True)
class Measure:
    """A reason for dropping: how the audit calls it, the recipe's key for its threshold ("": there
    is none, and any is too many), whether the value must not lie below, and how it is measured.
    """

    reason: str
    key: str
    least: bool
    value: Callable[[Any, str], float]
    """Of the recipe's section and the text."""

    def threshold(self, section: Any) -> float:
        """The limit that the value broke."""
        return getattr(section, self.key) if self.key else 0


def measures_of(section: Any) -> dict[str, Measure]:
    """Every reason that the filter of this section can give, and its measure."""
    return MEASURES[type(section)]


def _most(reason: str, key: str, value: Callable[[Any, str], float]) -> Measure:
    return Measure(reason, key, False, value)


def _least(reason: str, key: str, value: Callable[[Any, str], float]) -> Measure:
    return Measure(reason, key, True, value)


def _words(text: str) -> list[str]:
    from datatrove.utils.text import split_into_words

    return list(split_into_words(text))


def _of_words(count: Callable[[str], float]) -> Callable[[Any, str], float]:
    """A count in the text, a word."""
    return lambda section, text: count(text) / len(_words(text))


def _of_lines(holds: Callable[[str], bool]) -> Callable[[Any, str], float]:
    """The share of lines for which this holds, blank ones among them."""

    def share(section: Any, text: str) -> float:
        lines = text.splitlines()
        return sum(map(holds, lines)) / len(lines)

    return share


def _repeated(paragraphs: bool, characters: bool) -> Callable[[Any, str], float]:
    def share(section: GopherRepetition, text: str) -> float:
        from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates

        found = filter_of(section)
        if paragraphs:
            parts = found.paragraph_exp.split(text.strip())
        else:
            parts = found._line_splitter.split(text)
        duplicates, duplicate_characters = find_duplicates(parts)
        return duplicate_characters / len(text) if characters else duplicates / len(parts)

    return share


def _top_n_gram(n: int) -> Measure:
    def share(section: Any, text: str) -> float:
        from datatrove.pipeline.filters import gopher_repetition_filter as gopher

        return float(gopher.find_top_duplicate(gopher.get_n_grams(_words(text), n)) / len(text))

    return _most(f"top {n}-gram", f"top_{n}_gram", share)


def _duplicate_n_grams(n: int) -> Measure:
    def share(section: Any, text: str) -> float:
        from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate

        return float(find_all_duplicate(_words(text), n) / len(text))

    return _most(f"duplicate {n}-grams", f"duplicate_{n}_grams", share)


def _real_words(text: str) -> list[str]:
    from datatrove.utils.text import PUNCTUATION_SET

    return [word for word in _words(text) if any(letter not in PUNCTUATION_SET for letter in word)]


def has_words(text: str) -> bool:
    """Whether any word of the text is more than punctuation."""
    return bool(_real_words(text))


def _word_count(section: Any, text: str) -> int:
    return len(_real_words(text))


def _word_length(section: Any, text: str) -> float:
    import numpy as np

    return float(np.mean([len(word) for word in _real_words(text)]))


def _alphabetic(section: Any, text: str) -> float:
    words = _words(text)
    return sum(any(map(str.isalpha, word)) for word in words) / len(words)


def _stop_words(section: GopherQuality, text: str) -> int:
    return len(filter_of(section).stop_words & set(_words(text)))


def _occurrences(passage: str) -> Callable[[Any, str], float]:
    def count(section: C4Quality, text: str) -> int:
        from datatrove.pipeline.filters.c4_filters import CITATION_REGEX

        if section.citations:
            text = CITATION_REGEX.sub("", text)
        return text.lower().count(passage)

    return count


def _sentences(section: C4Quality, text: str) -> int:
    """How many the filter counted: the largest minimum under which it would keep the text."""
    from datatrove.data import Document

    def drops(minimum: int) -> bool:
        return c4_filter(section, minimum).filter(Document(text=text, id="")) is not True

    return bisect.bisect_left(range(1, section.minimum_sentences), True, key=drops)


def _full_lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _punctuated(section: FineWebQuality, text: str) -> float:
    ends, lines = filter_of(section).stop_chars, _full_lines(text)
    return sum(line.endswith(ends) for line in lines) / len(lines)


def _short(section: FineWebQuality, text: str) -> float:
    lines = _full_lines(text)
    return sum(len(line) <= section.short_line_characters for line in lines) / len(lines)


def _repeated_lines(section: FineWebQuality, text: str) -> float:
    from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates

    return float(find_duplicates(_full_lines(text))[1] / len(text.replace("\n", "")))


def _ellipses(text: str) -> int:
    return text.count("...") + text.count("…")


def _is_bullet(line: str) -> bool:
    return line.lstrip().startswith(("•", "-"))


def _trails_off(line: str) -> bool:
    return line.rstrip().endswith(("...", "…"))


MEASURES: dict[type, dict[str, Measure]] = {
    GopherRepetition: {
        "dup_para_frac": _most(
            "duplicate paragraphs", "duplicate_paragraphs", _repeated(True, False)
        ),
        "dup_para_char_frac": _most(
            "duplicate paragraph characters",
            "duplicate_paragraph_characters",
            _repeated(True, True),
        ),
        "dup_line_frac": _most("duplicate lines", "duplicate_lines", _repeated(False, False)),
        "dup_line_char_frac": _most(
            "duplicate line characters", "duplicate_line_characters", _repeated(False, True)
        ),
        **{f"top_{n}_gram": _top_n_gram(n) for n in TOP_N_GRAMS},
        **{f"duplicated_{n}_n_grams": _duplicate_n_grams(n) for n in DUPLICATE_N_GRAMS},
    },
    GopherQuality: {
        "gopher_short_doc": _least("too few words", "minimum_words", _word_count),
        "gopher_long_doc": _most("too many words", "maximum_words", _word_count),
        "gopher_below_avg_threshold": _least("short words", "minimum_word_length", _word_length),
        "gopher_above_avg_threshold": _most("long words", "maximum_word_length", _word_length),
        "gopher_too_many_hashes": _most(
            "hashes", "symbols_a_word", _of_words(lambda text: text.count("#"))
        ),
        "gopher_too_many_ellipsis": _most("ellipses", "symbols_a_word", _of_words(_ellipses)),
        "gopher_too_many_bullets": _most("bullet lines", "bullet_lines", _of_lines(_is_bullet)),
        "gopher_too_many_end_ellipsis": _most(
            "lines that trail off", "ellipsis_lines", _of_lines(_trails_off)
        ),
        "gopher_below_alpha_threshold": _least(
            "too few alphabetic words", "alphabetic_words", _alphabetic
        ),
        "gopher_enough_stop_words": _least("too few stop words", "stop_words", _stop_words),
    },
    C4Quality: {
        "lorem_ipsum": _most("lorem ipsum", "", _occurrences("lorem ipsum")),
        "curly_bracket": _most("curly brackets", "", _occurrences("{")),
        "too_few_sentences": _least("too few sentences", "minimum_sentences", _sentences),
    },
    FineWebQuality: {
        "line_punct_ratio": _least("too few punctuated lines", "punctuated_lines", _punctuated),
        "short_line_ratio": _most("short lines", "short_lines", _short),
        "char_dup_ratio": _most(
            "duplicate line characters", "duplicate_line_characters", _repeated_lines
        ),
        "list_ratio": _most(
            "line breaks", "newlines_a_word", _of_words(lambda text: text.count("\n"))
        ),
    },
}
"""For each section of the recipe; the reason "empty" is not measured."""
