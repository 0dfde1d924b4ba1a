"""The published heuristics of text quality, each as a rule; what they decide, datatrove's filters
decide.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from trainer.corpus.rules.quality_filters import filter_of
from trainer.corpus.rules.quality_measures import has_words, measures_of
from trainer.corpus.rules.rule import Finding, Judgement, Rule, RuleDescription, dropped, kept
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
"""Characters between white space that are taken for a word whatever they are."""
SYMBOLS = 0.25
"""Share of symbols in a longer run at which it is one that the word splitter, which takes symbols
off a word one by one, needs time for that grows with the square of its length: 40 s for 20,000
emoji. Prose without spaces, addresses and encoded bytes lie far below."""
LINES = {
    "line-filter-too_long_word": "lines with a long word removed",
    "line-filter-no_terminal_punc": "lines without terminal punctuation removed",
    "line-filter-too_few_words": "lines with few words removed",
    "line-filter-javascript": "lines on JavaScript removed",
    "line-filter-policy": "lines on policies removed",
}
"""datatrove's names for what C4's filter removes, and the audit's."""


def quality_rules(section: QualityRules) -> list[Rule]:
    """The heuristics that the recipe asks for, in their order."""
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
    """A filter of datatrove's that keeps a text as it is, or drops it."""

    name: str
    section: GopherRepetition | GopherQuality | FineWebQuality

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text."""
        run = _unsplittable(text)
        if run is not None:
            return dropped(UNSPLITTABLE, run, LONGEST_RUN)
        return _filtered(self.section, text) or kept(text)


@dataclass(frozen=True)
class C4:
    """datatrove's C4 filter, which removes lines, and drops a text that has too little left.

    The lines that stay lose the white space around them and the blank lines between them. The
    value of a finding is the number of lines, or of citation marks.
    """

    section: C4Quality
    name: str = "c4"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text, or what is left of it."""
        from datatrove.data import Document

        judged = Document(text=text, id=document)
        filter_of(self.section).lines.clear()
        outcome = _filtered(self.section, text, judged)
        if outcome is not None:
            return outcome
        if not judged.text:
            return dropped(NO_TEXT, None, None)
        return Judgement(judged.text, tuple(self._changes(text)) if judged.text != text else ())

    def _changes(self, text: str) -> list[Finding]:
        """Why the text that was filtered last is not what it was."""
        from datatrove.pipeline.filters.c4_filters import CITATION_REGEX

        removed = Counter(filter_of(self.section).lines)
        lines = text.splitlines()
        blank = sum(not line.strip() for line in lines)
        # datatrove counts a blank line with the first check that it fails.
        if self.section.terminal_punctuation:
            removed["line-filter-no_terminal_punc"] -= blank
        elif self.section.minimum_words_a_line:
            removed["line-filter-too_few_words"] -= blank
        else:
            blank = 0
        counts = {reason: removed[name] for name, reason in LINES.items()}
        counts["blank lines removed"] = blank
        if self.section.citations:
            counts["citation marks removed"] = len(CITATION_REGEX.findall(text))
        counts["white space around lines removed"] = sum(
            line.strip() not in ("", line) for line in lines
        )
        changes = [Finding(reason, count) for reason, count in counts.items() if count]
        return changes or [Finding("line ends")]


def _filtered(section: Any, text: str, judged: Any = None) -> Judgement | None:
    """How datatrove's filter drops a text, with what it measured; None where it does not."""
    from datatrove.data import Document

    try:
        if isinstance(section, GopherQuality) and not section.minimum_words and not has_words(text):
            # With no least number of words, datatrove would take the mean length of none.
            return dropped(NO_WORDS, 0, None)
        result = filter_of(section).filter(judged or Document(text=text, id=""))
    except ZeroDivisionError:
        return dropped(NO_WORDS, 0, None)
    except UnicodeEncodeError:
        return dropped(NOT_UNICODE, None, None)
    if result is True:
        return None
    _, name = result
    if name == "empty":
        return dropped(NO_TEXT, None, None)
    measure = measures_of(section)[name]
    return dropped(measure.reason, measure.value(section, text), measure.threshold(section))


def _unsplittable(text: str) -> int | None:
    """The length of a run that the word splitter would take too long for, if there is one."""
    for word in text.split():
        if len(word) > LONGEST_RUN:
            letters = sum(map(str.isalnum, word))
            if len(word) - letters >= SYMBOLS * len(word):
                return len(word)
    return None


@dataclass(frozen=True)
class MinimumLength:
    """Drops texts of fewer than `characters`, white space around them not counted; empty ones
    always.
    """

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
    " datatrove's filters",
    not_applied="no heuristic of quality was applied",
    limits="Heuristics of quality judge form and not truth: a false statement in good prose"
    " passes, and good text in an unusual form (code, verse, tables) may have been dropped.",
)
