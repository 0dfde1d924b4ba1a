"""The published quality heuristics as a table of measures and their limits in the recipe.

For English the measures are those of datatrove's filters, as the tests check, over datatrove's
words: except that Gopher's two shares of words (`symbols_a_word`, `alphabetic_words`) are of
`spaced_words`. What is a word, and a limit, in another language: `ProseLanguage`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.corpus.rules.prose_language import ProseLanguage
from trainer.recipe.curation import FineWebQuality, GopherQuality, GopherRepetition

Value = Callable[[Any, str, ProseLanguage], float]
"""A function of the recipe's section, the text and its language."""


@dataclass(frozen=True)
class Measure:
    """One heuristic.

    Attributes:
        reason: Its name in the audit of texts that break the limit.
        key: The recipe's key of the limit.
        least: Whether it is a lower limit, or an upper one.
        value: The function that measures a text.

    """

    reason: str
    key: str
    least: bool
    value: Value

    def broken(
        self, section: Any, text: str, language: ProseLanguage
    ) -> tuple[float, float] | None:
        """(value, limit) where the text breaks the limit that its language has."""
        limit = language.limit(section, self.key)
        if limit is None:
            return None
        value = self.value(section, text, language)
        return (value, limit) if (value < limit if self.least else value > limit) else None


def full_lines(text: str) -> list[str]:
    """The lines that are not blank."""
    return [line for line in text.split("\n") if line.strip()]


def _most(reason: str, key: str, value: Value) -> Measure:
    return Measure(reason, key, False, value)


def _least(reason: str, key: str, value: Value) -> Measure:
    return Measure(reason, key, True, value)


def _a_spaced_word(count: Callable[[str], float]) -> Value:
    """`count` of the text, divided by its number of words between white space."""
    return lambda section, text, language: count(text) / len(language.spaced_words(text))


def _of_lines(
    holds: Callable[[Any, str, ProseLanguage], bool],
    lines: Callable[[str], Sequence[str]] = str.splitlines,
) -> Value:
    """The fraction of `lines` for which `holds` is true."""

    def fraction(section: Any, text: str, language: ProseLanguage) -> float:
        found = lines(text)
        return sum(holds(section, line, language) for line in found) / len(found)

    return fraction


def _repeated(parts: Callable[[str], list[str]], length: Callable[[str], int] | None) -> Value:
    """The fraction of parts that repeat earlier ones; with `length`, of characters in them."""

    def fraction(section: Any, text: str, language: ProseLanguage) -> float:
        from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates

        found = parts(text)
        duplicates, characters = find_duplicates(found)
        return float(characters / length(text) if length else duplicates / len(found))

    return fraction


def _paragraphs(text: str) -> list[str]:
    return re.split(r"\n{2,}", text.strip())


def _lines(text: str) -> list[str]:
    return re.split("\n+", text)


def _top_n_gram(n: int) -> Measure:
    def fraction(section: Any, text: str, language: ProseLanguage) -> float:
        from datatrove.pipeline.filters.gopher_repetition_filter import find_top_duplicate

        found = language.n_grams(text, n)
        return float(find_top_duplicate(found) / len(text)) if found else 0.0

    return _most(f"top {n}-gram", f"top_{n}_gram", fraction)


def _duplicate_n_grams(n: int) -> Measure:
    def fraction(section: Any, text: str, language: ProseLanguage) -> float:
        from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate

        return float(find_all_duplicate(language.words(text), language.length(n)) / len(text))

    return _most(f"duplicate {n}-grams", f"duplicate_{n}_grams", fraction)


def _word_count(section: Any, text: str, language: ProseLanguage) -> float:
    return len(language.real_words(text))


def _word_length(section: Any, text: str, language: ProseLanguage) -> float:
    words = language.real_words(text)
    return sum(map(len, words)) / len(words)


def _alphabetic(section: Any, text: str, language: ProseLanguage) -> float:
    words = language.spaced_words(text)
    return sum(any(map(str.isalpha, word)) for word in words) / len(words)


def _stop_words(section: Any, text: str, language: ProseLanguage) -> float:
    return language.stop_words(text)


def _line_breaks(section: Any, text: str, language: ProseLanguage) -> float:
    return text.count("\n") / len(language.words(text))


def _is_punctuated(section: Any, line: str, language: ProseLanguage) -> bool:
    return language.ends_sentence(line)


def _is_short(section: FineWebQuality, line: str, language: ProseLanguage) -> bool:
    limit = language.limit(section, "short_line_characters")
    return limit is not None and len(line) <= limit


def _ellipses(text: str) -> int:
    return text.count("...") + text.count("…")


def _is_bullet(section: Any, line: str, language: ProseLanguage) -> bool:
    return line.lstrip().startswith(("•", "-"))


def _trails_off(section: Any, line: str, language: ProseLanguage) -> bool:
    return line.rstrip().endswith(("...", "…"))


MEASURES: dict[type, tuple[Measure, ...]] = {
    GopherRepetition: (
        _most("duplicate paragraphs", "duplicate_paragraphs", _repeated(_paragraphs, None)),
        _most(
            "duplicate paragraph characters",
            "duplicate_paragraph_characters",
            _repeated(_paragraphs, len),
        ),
        _most("duplicate lines", "duplicate_lines", _repeated(_lines, None)),
        _most("duplicate line characters", "duplicate_line_characters", _repeated(_lines, len)),
        *map(_top_n_gram, (2, 3, 4)),
        *map(_duplicate_n_grams, (5, 6, 7, 8, 9, 10)),
    ),
    GopherQuality: (
        _least("too few words", "minimum_words", _word_count),
        _most("too many words", "maximum_words", _word_count),
        _least("short words", "minimum_word_length", _word_length),
        _most("long words", "maximum_word_length", _word_length),
        _most("hashes", "symbols_a_word", _a_spaced_word(lambda text: text.count("#"))),
        _most("ellipses", "symbols_a_word", _a_spaced_word(_ellipses)),
        _most("bullet lines", "bullet_lines", _of_lines(_is_bullet)),
        _most("lines that trail off", "ellipsis_lines", _of_lines(_trails_off)),
        _least("too few alphabetic words", "alphabetic_words", _alphabetic),
        _least("too few stop words", "stop_words", _stop_words),
    ),
    FineWebQuality: (
        _least(
            "too few punctuated lines", "punctuated_lines", _of_lines(_is_punctuated, full_lines)
        ),
        _most("short lines", "short_lines", _of_lines(_is_short, full_lines)),
        _most(
            "duplicate line characters",
            "duplicate_line_characters",
            _repeated(full_lines, lambda text: len(text.replace("\n", ""))),
        ),
        _most("line breaks", "newlines_a_word", _line_breaks),
    ),
}
"""In the filters' order: the first broken one is the reason."""
