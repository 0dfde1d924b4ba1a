"""Text as Unicode means it: mojibake mended, control characters and foreign line ends gone, one
normal form.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from trainer.corpus.reading.unicode import unicode_fault
from trainer.corpus.rules.rule import Finding, Judgement, RuleDescription, dropped, kept
from trainer.recipe.curation import NormalizeRule

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

NO_TEXT = "no text"
NOT_UNICODE = "not Unicode"
ASCII_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09, 0x0A})
"""Everything in ASCII that the rule may remove or replace, trailing white space aside."""
LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
"""What Unicode (5.8, Newline Guidelines) takes for the end of a line, beside the line feed."""
C1_CONTROLS = re.compile("[\x80-\x9f]")


@dataclass(frozen=True)
class Normalize:
    """Mends a text; drops it where it has lone surrogates, which no encoding can write, and where
    nothing but white space is left.

    The value of a finding is the number of lines mended, or of characters removed or replaced.
    """

    section: NormalizeRule
    name: str = "normalize"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text; clean ASCII, the common case, is told at once and left alone."""
        if not text or text.isspace():
            return dropped(NO_TEXT, None, None)
        if text.isascii() and _is_clean(text):
            return kept(text)
        if unicode_fault(text) is not None:
            return dropped(NOT_UNICODE, None, None)
        return self._mended(text)

    def _mended(self, text: str) -> Judgement:
        findings: list[Finding] = []
        if self.section.mend_mojibake:
            text, lines = _mend_mojibake(text)
            _note(findings, "mojibake mended", lines)
        text, ends = LINE_END.subn("\n", text)
        _note(findings, "line ends", ends)
        if self.section.mend_mojibake:
            text, controls = _without_controls(text)
            _note(findings, "control characters removed", controls)
        form = self.section.unicode
        if form != "none" and not unicodedata.is_normalized(form, text):
            text = unicodedata.normalize(form, text)
            findings.append(Finding("characters normalized", form))
        text, spaces = _without_trailing_space(text)
        _note(findings, "white space at line ends", spaces)
        if not text or text.isspace():
            return dropped(NO_TEXT, None, None)
        return Judgement(text, tuple(findings))


def _note(findings: list[Finding], reason: str, count: int) -> None:
    if count:
        findings.append(Finding(reason, count))


def _is_clean(text: str) -> bool:
    """Whether ASCII text has nothing that the rule would change, whatever its settings."""
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        return False
    data = text.encode("ascii")
    return len(data.translate(None, ASCII_CONTROLS)) == len(data)


@cache
def _mending() -> "TextFixerConfig":
    """What ftfy may do: undo a wrong decoding, and nothing else.

    - `unescape_html` off: `&lt;` is what a text about HTML means, and pages are unescaped when
      their text is extracted.
    - `uncurl_quotes` off: curly quotes are right as they are.
    - `fix_latin_ligatures`, `fix_character_width` off: those are compatibility characters, which
      the recipe's NFKC folds, and its NFC must not.
    - the steps for controls, line ends, surrogates and normal forms off: they stand in this file,
      where each is told from the others in the audit.
    """
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


def _mend_mojibake(text: str) -> tuple[str, int]:
    """Each line by itself, as ftfy does, and ASCII ones not at all; with the number mended."""
    if text.isascii():
        return text, 0
    from ftfy import fix_text

    config, count = _mending(), 0
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if line.isascii():
            continue
        mended = fix_text(line, config)
        if mended != line:
            lines[place] = mended
            count += 1
    return "\n".join(lines), count


def _without_controls(text: str) -> tuple[str, int]:
    """Without controls, terminals' colours, and marks that Unicode calls unsuitable for text."""
    from ftfy.fixes import remove_control_chars, remove_terminal_escapes

    cleaned = remove_control_chars(remove_terminal_escapes(text))
    if not cleaned.isascii():
        cleaned = C1_CONTROLS.sub("", cleaned)
    return cleaned, len(text) - len(cleaned)


def _without_trailing_space(text: str) -> tuple[str, int]:
    # By lines: a regular expression takes quadratic time on a long run of spaces.
    cleaned = "\n".join([line.rstrip() for line in text.split("\n")])
    return cleaned, len(text) - len(cleaned)


DESCRIPTION = RuleDescription(
    rules=lambda section: [Normalize(section)],
    behind_duplicates=False,
    summary="ftfy mends mojibake, NFC, control characters and foreign line ends go",
    not_applied="text was not normalised",
)
