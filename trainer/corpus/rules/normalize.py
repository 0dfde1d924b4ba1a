"""Unicode normalization: mojibake repaired, control characters and foreign line ends removed, one
normal form; and hard-wrapped paragraphs unwrapped.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from trainer.corpus.reading.unicode import unicode_fault
from trainer.corpus.rules.rule import Finding, Judgement, RuleDescription, dropped, kept
from trainer.corpus.rules.unwrap import unwrap
from trainer.recipe.curation import NormalizeRule

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

NO_TEXT = "no text"
NOT_UNICODE = "not Unicode"
JOINED = "hard-wrapped lines joined"
ASCII_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09, 0x0A})
"""The ASCII characters that the rule removes or replaces, besides trailing white space."""
LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
"""Line ends other than the line feed. Source: Unicode, section 5.8, Newline Guidelines."""
C1_CONTROLS = re.compile("[\x80-\x9f]")


@dataclass(frozen=True)
class Normalize:
    """Normalizes a text; drops it where it has lone surrogates, which UTF-8 cannot encode, or only
    white space is left.

    The value of a finding is the number of lines repaired or joined, or of characters removed or
    replaced.
    """

    section: NormalizeRule
    name: str = "normalize"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text; clean ASCII, the common case, passes after one cheap check."""
        if not text or text.isspace():
            return dropped(NO_TEXT, None, None)
        if text.isascii() and _is_clean(text):
            unwrapped, lines = unwrap(text) if self.section.unwrap else (text, 0)
            return Judgement(unwrapped, (Finding(JOINED, lines),)) if lines else kept(text)
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
        if self.section.unwrap:
            text, lines = unwrap(text)
            _note(findings, JOINED, lines)
        return Judgement(text, tuple(findings))


def _note(findings: list[Finding], reason: str, count: int) -> None:
    if count:
        findings.append(Finding(reason, count))


def _is_clean(text: str) -> bool:
    """Whether ASCII text has nothing that the rule changes under any settings."""
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        return False
    data = text.encode("ascii")
    return len(data.translate(None, ASCII_CONTROLS)) == len(data)


@cache
def _mending() -> "TextFixerConfig":
    """Settings of ftfy: it undoes a wrong decoding, and nothing else.

    - `unescape_html` off: a text about HTML means `&lt;`, and pages are unescaped when their text
      is extracted.
    - `uncurl_quotes` off: curly quotes are correct.
    - `fix_latin_ligatures`, `fix_character_width` off: these are compatibility characters, which
      the recipe's NFKC folds and its NFC must not.
    - control characters, line ends, surrogates and normal forms off: this module handles them, each
      with its own finding in the audit.
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
    """The text with mojibake repaired line by line, and the number of lines changed."""
    if text.isascii():
        return text, 0
    from ftfy import fix_text

    config, count = _mending(), 0
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.isascii():
            continue
        mended = fix_text(line, config)
        if mended != line:
            lines[number] = mended
            count += 1
    return "\n".join(lines), count


def _without_controls(text: str) -> tuple[str, int]:
    """The text without control characters and terminal escapes, and the number removed."""
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
    summary="ftfy mends mojibake, NFC, control characters and foreign line ends go, hard-wrapped"
    " prose is unwrapped",
    not_applied="text was not normalised",
)
