"""The published quality heuristics (Gopher, C4, FineWeb), each as a rule."""

import unicodedata
from dataclasses import dataclass
from typing import Protocol

from trainer.corpus.rules.c4 import C4
from trainer.corpus.rules.languages import prose_language
from trainer.corpus.rules.prose_language import English, ProseLanguage
from trainer.corpus.rules.quality_measures import MEASURES, full_lines
from trainer.corpus.rules.rule import Judgement, RuleByLanguage, RuleDescription, dropped, kept
from trainer.recipe.curation import (
    FineWebQuality,
    GopherQuality,
    GopherRepetition,
    QualityRules,
)

NO_TEXT, NO_WORDS, NOT_UNICODE = "no text", "no words", "not Unicode"
UNSPLITTABLE = "unbroken symbols"
LONGEST_RUN = 1000
"""Characters without white space up to which any run is split into words."""
SYMBOLS = 0.25
"""Fraction of symbols from which a longer run is not split. The word splitter removes symbols one
by one, in time quadratic in the run's length: 40 s for 20,000 emoji. Prose without spaces,
addresses and encoded bytes have far fewer."""


class QualityRule(RuleByLanguage, Protocol):
    """A heuristic of quality."""

    def judged(self, text: str, language: ProseLanguage) -> Judgement:
        """Judge one text in a language."""


def quality_rules(section: QualityRules) -> list[QualityRule]:
    """The rules of the heuristics that the recipe names, in order."""
    rules: list[QualityRule] = []
    if section.gopher_repetition is not None:
        rules.append(Heuristic("gopher repetition", section.gopher_repetition))
    if section.gopher_quality is not None:
        rules.append(Heuristic("gopher quality", section.gopher_quality))
    if section.c4 is not None:
        rules.append(C4(section.c4))
    if section.fineweb is not None:
        rules.append(Heuristic("fineweb", section.fineweb))
    return rules


@dataclass(frozen=True)
class Heuristic:
    """Passes a text unchanged, or drops it by the first measure whose limit it breaks."""

    name: str
    section: GopherRepetition | GopherQuality | FineWebQuality

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one English text."""
        return self.judged(text, English())

    def in_language(self, text: str, code: str) -> Judgement:
        """Judge one text in the language of one of py3langid's codes."""
        return self.judged(text, prose_language(code))

    def left_out(self, code: str) -> tuple[str, ...]:
        """The reasons for which no text in a language can be dropped, for want of a limit."""
        language = prose_language(code)
        return tuple(
            measure.reason
            for measure in MEASURES[type(self.section)]
            if language.limit(self.section, measure.key) is None
        )

    def judged(self, text: str, language: ProseLanguage) -> Judgement:
        """Judge one text in a language."""
        run = _unsplittable(text)
        if run is not None:
            return dropped(UNSPLITTABLE, run, LONGEST_RUN)
        section = self.section
        if isinstance(section, GopherRepetition) and not text:
            return dropped(NO_TEXT, None, None)
        if isinstance(section, FineWebQuality) and not full_lines(text):
            return dropped(NO_TEXT, None, None)
        try:
            # With no least number of words, there may be none to take a mean of.
            may_be_none = isinstance(section, GopherQuality) and not section.minimum_words
            if may_be_none and not language.real_words(text):
                return dropped(NO_WORDS, 0, None)
            for measure in MEASURES[type(section)]:
                if (broken := measure.broken(section, text, language)) is not None:
                    return dropped(measure.reason, *broken)
        except ZeroDivisionError:
            return dropped(NO_WORDS, 0, None)
        except UnicodeEncodeError:
            return dropped(NOT_UNICODE, None, None)
        return kept(text)


def _unsplittable(text: str) -> int | None:
    """The length of the first run that the word splitter would take too long for, or None."""
    for word in text.split():
        if len(word) > LONGEST_RUN:
            letters = sum(one.isalnum() or unicodedata.category(one)[0] == "M" for one in word)
            if len(word) - letters >= SYMBOLS * len(word):
                return len(word)
    return None


@dataclass(frozen=True)
class MinimumLength:
    """Drops texts of fewer than `characters` (at least 1), not counting white space around them."""

    characters: int
    name: str = "minimum length"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text by its length."""
        length = len(text.strip())
        limit = max(self.characters, 1)
        return dropped("too short", length, limit) if length < limit else kept(text)


DESCRIPTION = RuleDescription(
    rules=quality_rules,
    behind_duplicates=False,
    summary="Gopher repetition, Gopher quality, C4 (without terminal punctuation), FineWeb:"
    " as datatrove's filters; each document by its own language",
    not_applied="no heuristic of quality was applied",
    limits="Heuristics of quality judge form and not truth: a false statement in good prose"
    " passes, and good text in an unusual form (code, verse, tables) may have been dropped.",
)
