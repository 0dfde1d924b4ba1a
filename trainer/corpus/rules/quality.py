"""The published quality heuristics (Gopher, C4, FineWeb), each as a rule."""

from collections import Counter
from dataclasses import dataclass

from trainer.corpus.rules.quality_measures import MEASURES, full_lines, real_words
from trainer.corpus.rules.rule import Finding, Judgement, Rule, RuleDescription, dropped, kept
from trainer.corpus.rules.splitting import sentence_count
from trainer.recipe.curation import (
    C4Quality,
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
LONG_WORD, UNPUNCTUATED, FEW_WORDS, JAVASCRIPT, POLICY, BLANK = C4_LINES = (
    "lines with a long word removed",
    "lines without terminal punctuation removed",
    "lines with few words removed",
    "lines on JavaScript removed",
    "lines on policies removed",
    "blank lines removed",
)
"""The audit's reasons for lines that C4 removes, in the audit's order."""
LOREM_IPSUM, CURLY_BRACKET = "lorem ipsum", "curly brackets"
"""The audit's reasons for which C4 drops a whole text."""


def quality_rules(section: QualityRules) -> list[Rule]:
    """The rules of the heuristics that the recipe names, in order."""
    rules: list[Rule] = []
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
        """Judge one text."""
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
            if may_be_none and not real_words(text):
                return dropped(NO_WORDS, 0, None)
            for measure in MEASURES[type(section)]:
                if (broken := measure.broken(section, text)) is not None:
                    return dropped(measure.reason, *broken)
        except ZeroDivisionError:
            return dropped(NO_WORDS, 0, None)
        except UnicodeEncodeError:
            return dropped(NOT_UNICODE, None, None)
        return kept(text)


@dataclass(frozen=True)
class C4:
    """C4's rules as in datatrove: removes lines, and drops a text of which too little is left.

    It also removes blank lines and the white space around lines. The value of a finding is the
    number of lines, or of citation marks.
    """

    section: C4Quality
    name: str = "c4"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text."""
        section = self.section
        removed: Counter[str] = Counter()
        left: list[str] = []
        sentences = 0
        for line in text.splitlines():
            reason, cleaned = self._line(line)
            if reason in (LOREM_IPSUM, CURLY_BRACKET):
                return dropped(reason, _occurrences(reason, section, text), 0)
            if reason:
                removed[reason] += 1
                continue
            left.append(cleaned)
            try:
                sentences += sentence_count(cleaned) if section.minimum_sentences else 0
            except UnicodeEncodeError:
                return dropped(NOT_UNICODE, None, None)
        if sentences < section.minimum_sentences:
            return dropped("too few sentences", sentences, section.minimum_sentences)
        result = "\n".join(left).strip()
        if not result:
            return dropped(NO_TEXT, None, None)
        return Judgement(result, tuple(self._changes(text, removed)) if result != text else ())

    def _line(self, line: str) -> tuple[str | None, str]:
        """(reason to remove the line or drop the text, or None; the line without citations)."""
        from datatrove.pipeline.filters import c4_filters as published

        section, line = self.section, line.strip()
        words = line.split()
        if not line and (section.terminal_punctuation or section.minimum_words_a_line):
            return BLANK, line
        if any(len(word) > section.maximum_word_length for word in words):
            return LONG_WORD, line
        if section.citations:
            line = published.CITATION_REGEX.sub("", line)
        ends = line.endswith(published.END_PUNCTUATION) and not line.endswith(published.ELLIPSIS)
        if section.terminal_punctuation and not ends:
            return UNPUNCTUATED, line
        if len(words) < section.minimum_words_a_line:
            return FEW_WORDS, line
        lower = line.lower()
        if section.lorem_ipsum and "lorem ipsum" in lower:
            return LOREM_IPSUM, line
        if section.javascript and "javascript" in lower:
            return JAVASCRIPT, line
        if section.curly_bracket and "{" in line:
            return CURLY_BRACKET, line
        if section.policy and any(phrase in lower for phrase in published.POLICY_SUBSTRINGS):
            return POLICY, line
        return None, line

    def _changes(self, text: str, removed: Counter[str]) -> list[Finding]:
        """The findings for what was removed from the text."""
        counts = {reason: removed[reason] for reason in C4_LINES}
        if self.section.citations:
            from datatrove.pipeline.filters.c4_filters import CITATION_REGEX

            counts["citation marks removed"] = len(CITATION_REGEX.findall(text))
        counts["white space around lines removed"] = sum(
            line.strip() not in ("", line) for line in text.splitlines()
        )
        changes = [Finding(reason, count) for reason, count in counts.items() if count]
        return changes or [Finding("line ends")]


def _occurrences(reason: str, section: C4Quality, text: str) -> int:
    """The number of occurrences, ignoring case, of what the text was dropped for."""
    if section.citations:
        from datatrove.pipeline.filters.c4_filters import CITATION_REGEX

        text = CITATION_REGEX.sub("", text)
    return text.lower().count("{" if reason == CURLY_BRACKET else "lorem ipsum")


def _unsplittable(text: str) -> int | None:
    """The length of the first run that the word splitter would take too long for, or None."""
    for word in text.split():
        if len(word) > LONGEST_RUN:
            letters = sum(map(str.isalnum, word))
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
    " as datatrove's filters",
    not_applied="no heuristic of quality was applied",
    limits="Heuristics of quality judge form and not truth: a false statement in good prose"
    " passes, and good text in an unusual form (code, verse, tables) may have been dropped.",
)
