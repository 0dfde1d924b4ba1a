"""C4's rules for the text of web pages: lines are removed, and pages with too little left."""

from collections import Counter
from dataclasses import dataclass

from trainer.corpus.rules.languages import prose_language
from trainer.corpus.rules.prose_language import English, ProseLanguage
from trainer.corpus.rules.rule import Finding, Judgement, dropped
from trainer.recipe.curation import C4Quality

NO_TEXT, NOT_UNICODE, FEW_SENTENCES = "no text", "not Unicode", "too few sentences"
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


@dataclass(frozen=True)
class C4:
    """C4's rules as in datatrove: removes lines, and drops a text of which too little is left.

    It also removes blank lines and the white space around lines. The value of a finding is the
    number of lines, or of citation marks.
    """

    section: C4Quality
    name: str = "c4"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one English text."""
        return self.judged(text, English())

    def in_language(self, text: str, code: str) -> Judgement:
        """Judge one text in the language of one of py3langid's codes."""
        return self.judged(text, prose_language(code))

    def left_out(self, code: str) -> tuple[str, ...]:
        """The reasons for which nothing in a language is removed, for want of a limit."""
        language = prose_language(code)
        reasons = {"minimum_words_a_line": FEW_WORDS, "minimum_sentences": FEW_SENTENCES}
        return tuple(
            reason
            for key, reason in reasons.items()
            if getattr(self.section, key) and language.limit(self.section, key) is None
        )

    def judged(self, text: str, language: ProseLanguage) -> Judgement:
        """Judge one text in a language."""
        section = self.section
        minimum = language.limit(section, "minimum_sentences") or 0
        removed: Counter[str] = Counter()
        left: list[str] = []
        sentences = 0
        for line in text.splitlines():
            reason, cleaned = self._line(line, language)
            if reason in (LOREM_IPSUM, CURLY_BRACKET):
                return dropped(reason, _occurrences(reason, section, text), 0)
            if reason:
                removed[reason] += 1
                continue
            left.append(cleaned)
            try:
                sentences += language.sentence_count(cleaned) if minimum else 0
            except UnicodeEncodeError:
                return dropped(NOT_UNICODE, None, None)
        if sentences < minimum:
            return dropped(FEW_SENTENCES, sentences, minimum)
        result = "\n".join(left).strip()
        if not result:
            return dropped(NO_TEXT, None, None)
        return Judgement(result, tuple(self._changes(text, removed)) if result != text else ())

    def _line(self, line: str, language: ProseLanguage) -> tuple[str | None, str]:
        """(reason to remove the line or drop the text, or None; the line without citations)."""
        from datatrove.pipeline.filters import c4_filters as published

        section, line = self.section, line.strip()
        words = language.spaced_words(line)
        if not line and (section.terminal_punctuation or section.minimum_words_a_line):
            return BLANK, line
        if any(len(word) > section.maximum_word_length for word in words):
            return LONG_WORD, line
        if section.citations:
            line = published.CITATION_REGEX.sub("", line)
        if section.terminal_punctuation and not _ends(line, language):
            return UNPUNCTUATED, line
        if len(words) < (language.limit(section, "minimum_words_a_line") or 0):
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


def _ends(line: str, language: ProseLanguage) -> bool:
    from datatrove.pipeline.filters.c4_filters import ELLIPSIS, END_PUNCTUATION

    if isinstance(language, English):
        return line.endswith(END_PUNCTUATION) and not line.endswith(ELLIPSIS)
    return language.ends_sentence(line) and not line.endswith(ELLIPSIS)


def _occurrences(reason: str, section: C4Quality, text: str) -> int:
    """The number of occurrences, ignoring case, of what the text was dropped for."""
    if section.citations:
        from datatrove.pipeline.filters.c4_filters import CITATION_REGEX

        text = CITATION_REGEX.sub("", text)
    return text.lower().count("{" if reason == CURLY_BRACKET else "lorem ipsum")
