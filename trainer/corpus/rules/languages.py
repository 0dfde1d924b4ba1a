"""The languages that the rules of quality know, from the table languages.tsv, and any other.

The table is written by `derive_languages`, which says from which texts and lists.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from trainer.corpus.rules.prose_language import ENGLISH, English, ProseLanguage
from trainer.corpus.rules.scripts import (
    ZERO_WIDTH_SPACES,
    marks,
    unspaced_letters,
    word_or_symbol_pattern,
)

TABLE = Path(__file__).with_name("languages.tsv")
FACTORS = ("words", "characters", "word_length", "punctuated", "sentences")
"""Columns: what a text in this language has for each one that the same text has in English. The
shares of lines that end in punctuation, and of sentences, count up to 1."""
SCALED: Mapping[str, tuple[str, int]] = {
    "minimum_words": ("words", 1),
    "maximum_words": ("words", 1),
    "minimum_words_a_line": ("words", 1),
    "symbols_a_word": ("words", -1),
    "newlines_a_word": ("words", -1),
    "minimum_word_length": ("word_length", 1),
    "maximum_word_length": ("word_length", 1),
    "short_lines": ("characters", 0),
    "short_line_characters": ("characters", 1),
    "punctuated_lines": ("punctuated", 1),
    "minimum_sentences": ("sentences", 1),
}
"""The recipe's keys that hold for English, with the factor's column and its power."""
NARROWED = 0.5
"""Power of a factor that narrows the limits on the mean length of words: plainer text than a
declaration of rights, or text with foreign words in Latin script, keeps well within them."""
OF_MARKS, LEAST_PUNCTUATED = ("punctuated", "sentences"), 0.2
"""A language in which fewer lines end in punctuation does not end its sentences by marks (Thai):
what is measured by marks is left out."""
ASCII_MARKS = "!?."
WORD_MARKS = "\u0f0b\u0f0c\u1361"
"""Marks that part words or syllables as spaces do: Tibetan, Ethiopic."""
OTHER_MARKS = "\u0f0d\u0f0e"
"""Tibetan marks that datatrove's list lacks."""
LAST_CHARACTERS = 8
_CLOSERS = (
    "\"')\\]}\u00ab\u00bb\u2018\u2019\u201c\u201d\u2039\u203a"
    "\u300b\u300d\u300f\u3011\uff02\uff07\uff09\uff3d\uff63"
)


@dataclass(frozen=True)
class LanguageProfile:
    """A row of the table.

    Attributes:
        code: py3langid's code of the language.
        texts: The texts that the factors come from, by the name of their files; none: no factors.
        factors: By FACTORS.
        spaces: Whether spaces part words.
        stop_words: In lower case; none: no list has any.

    """

    code: str
    texts: tuple[str, ...] = ()
    factors: Mapping[str, float] | None = None
    spaces: bool = True
    stop_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class OtherLanguage:
    """A language other than English, by `word_or_symbol_pattern` and the limits of its profile."""

    profile: LanguageProfile

    def words(self, text: str) -> list[str]:
        """The words and single symbols; raises as `splitting.words_of`."""
        return _words_of(text)

    def real_words(self, text: str) -> list[str]:
        """The words that have a letter or digit."""
        return [word for word in _words_of(text) if word[0].isalnum()]

    def spaced_words(self, text: str) -> list[str]:
        """The words between white space, but each letter of scripts without spaces alone."""
        return _spaced_word().findall(text)

    def n_grams(self, text: str, n: int) -> list[str]:
        """Every run of words that says as much as `n` English ones."""
        words, length = _words_of(text), self.length(n)
        between = " " if self.profile.spaces else ""
        return [between.join(words[at : at + length]) for at in range(len(words) - length + 1)]

    def length(self, n: int) -> int:
        """`n`, or more where words say less, as letters and syllables do."""
        factors = self.profile.factors
        return n if factors is None else max(n, round(n * factors["words"]))

    def sentence_count(self, text: str) -> int:
        """The number of parts, with a word in them, that marks or the text's end end."""
        parts = _sentence_end().split(text)
        return sum(any(map(str.isalnum, part)) for part in parts)

    def stop_words(self, text: str) -> int:
        """How many different stop words occur: among the words, or anywhere without spaces."""
        lower = text.lower()
        if not self.profile.spaces:
            return sum(word in lower for word in self.profile.stop_words)
        return len(set(self.profile.stop_words) & set(_words_of(lower)))

    def ends_sentence(self, line: str) -> bool:
        """Whether a mark that ends sentences stands at the end, or before quotes or brackets."""
        return _last_mark().search(line.rstrip()[-LAST_CHARACTERS:]) is not None

    def limit(self, section: Any, key: str) -> float | None:
        """The recipe's, times the language's factor; None where nothing says what it should be."""
        value: float = getattr(section, key)
        if key == "stop_words":
            return value if self.profile.stop_words else None
        if key not in SCALED:
            return value
        if self.profile.factors is None:
            return None
        column, power = SCALED[key]
        if column in OF_MARKS and self.profile.factors["punctuated"] < LEAST_PUNCTUATED:
            return None
        factor = self.profile.factors[column]
        if column == "word_length" and (factor > 1) == key.startswith("minimum"):
            factor **= NARROWED
        scaled = value * factor**power
        return max(1, round(scaled)) if isinstance(value, int) and value else scaled


def prose_language(code: str) -> ProseLanguage:
    """The language of one of py3langid's codes."""
    if code == ENGLISH:
        return English()
    return OtherLanguage(profiles().get(code, LanguageProfile(code)))


@cache
def profiles() -> dict[str, LanguageProfile]:
    """The table, by code."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    columns, *rows = [row for row in rows if not row[0].startswith("#")]
    found = {}
    for row in rows:
        cells = dict(zip(columns, row, strict=True))
        factors = {name: float(cells[name]) for name in FACTORS if cells[name] != "-"}
        found[cells["language"]] = LanguageProfile(
            code=cells["language"],
            texts=tuple(cells["texts"].split()) if factors else (),
            factors=factors or None,
            spaces=cells["spaces"] == "yes",
            stop_words=tuple(word for word in cells["stop_words"].split() if word != "-"),
        )
    return found


@lru_cache(maxsize=4)
def _words_of(text: str) -> list[str]:
    text.encode()
    return _word_or_symbol().findall(text)


@cache
def _word_or_symbol() -> re.Pattern[str]:
    return re.compile(word_or_symbol_pattern())


@cache
def _spaced_word() -> re.Pattern[str]:
    letters = unspaced_letters()
    return re.compile(rf"[{letters}][{marks()}]*|[^\s{ZERO_WIDTH_SPACES}{WORD_MARKS}{letters}]+")


@cache
def _sentence_end() -> re.Pattern[str]:
    """Marks that end sentences, and the quotes or brackets behind them: marks of ASCII only before
    white space, a letter that needs none, or the text's end; others anywhere.
    """
    others = _other_marks()
    return re.compile(
        rf"[{others}][{others}{ASCII_MARKS}{_CLOSERS}]*"
        rf"|[{ASCII_MARKS}]+[{_CLOSERS}]*(?=[\s{unspaced_letters()}]|\Z)"
    )


@cache
def _last_mark() -> re.Pattern[str]:
    return re.compile(rf"[{_other_marks()}{ASCII_MARKS}](?:\s?[{_CLOSERS}])*\Z")


@cache
def _other_marks() -> str:
    from datatrove.utils.text import TERMINAL_PUNCTUATION

    return re.escape("".join(sorted({*TERMINAL_PUNCTUATION, *OTHER_MARKS} - set(ASCII_MARKS))))
