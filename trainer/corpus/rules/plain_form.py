"""The plain form of a text: typographic spaces, dashes, digits and full-width forms as ASCII,
without invisible characters; patterns written for ASCII then find what is behind them.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from trainer.corpus.rules.scripts import character_ranges

CharacterSpan = tuple[int, int]

DASH = "\u2013"
"""Stands for every dash that also parts words: it is a hyphen only between digits, or behind @."""
_DASHES = "\u2012\u2014\u2015\u2e3a\u2e3b\ufe31\ufe32\ufe58"
_HYPHENS = "\u058a\u05be\u1806\u2010\u2011\u2043\u207b\u208b\u2212\ufe63\uff0d"
_ODD_FORMS = {"\ufe52": ".", "\u2024": ".", "\ufe6b": "@", "\ufe62": "+", "\u2215": "/"}
_ODD_FORMS |= {"\u2044": "/", "\ufe55": ":", "\uff61": ".", "\u3002": "."}
WIDE_STOPS = "\u3002\uff0e\uff61"
"""Full stops of Chinese and Japanese. In a domain they stand for a dot (RFC 3490, section 3.1),
and behind one they end a sentence."""
_BETWEEN_DIGITS = re.compile(
    rf"[{DASH}\u30fc](?:(?<=[0-9)].)|(?<=[0-9)] .))(?= ?[0-9(])"  # The rare character first.
)
_SOFT_HYPHEN = re.compile(r"(?<=\d\d)\u00ad(?=\d)|(?<=\d)\u00ad(?=\d\d)")
"""One between groups of digits was a hyphen: text out of PDF files has it for all."""
_BEHIND_AT = re.compile(rf"@[^\s@]*{DASH}[^\s@]*")
_INSIDE = re.compile(rf"(?<=[^\W_]){DASH}+(?=[^\W_])")
_WIDENED = re.compile(r"(?<=[0-9)] ) {1,2}(?=[0-9(])")


@dataclass(frozen=True)
class PlainForm:
    """A text's plain form; `origins[i]` is the index in the text of its character i."""

    text: str
    origins: Sequence[int]

    def original(self, span: CharacterSpan) -> CharacterSpan:
        """The span in the text of a span, of at least one character, in the plain form."""
        start, end = span
        return self.origins[start], self.origins[end - 1] + 1


def plain_forms(text: str) -> Iterator[PlainForm]:
    """The plain form of a text, where that is not the text itself; two where a soft hyphen between
    digits may have been a hyphen or none.

    Wider gaps between digits are one space, up to three; more part the columns of a table.
    """
    if text.isascii() or not _typographic().search(text):
        widened = _without(text, range(len(text)), _WIDENED)
        if widened is not None:
            yield widened
        return
    yield _plain_form(text)
    if _SOFT_HYPHEN.search(text):
        yield _plain_form(_SOFT_HYPHEN.sub("-", text))


def plain_words(text: str) -> str:
    """A few words in their plain form, with one space between them."""
    if not text.isascii():
        text = _invisible().sub("", text).translate(_ascii_forms()).replace(DASH, "-")
    return re.sub("[^\\S\\n]+", " ", text)


def _plain_form(text: str) -> PlainForm:
    found = _without(text, range(len(text)), _invisible()) or PlainForm(text, range(len(text)))
    plain = _BETWEEN_DIGITS.sub("-", found.text.translate(_ascii_forms()))
    if "@" in plain and DASH in plain:
        plain = _BEHIND_AT.sub(lambda match: _INSIDE.sub(_hyphens, match.group()), plain)
    return _without(plain, found.origins, _WIDENED) or PlainForm(plain, found.origins)


def _hyphens(match: re.Match[str]) -> str:
    return match.group().replace(DASH, "-")


def _without(text: str, origins: Sequence[int], removed: re.Pattern[str]) -> PlainForm | None:
    """The text without what a pattern matches; None where it matches nothing."""
    parts: list[str] = []
    left = array("L")
    last = 0
    for match in removed.finditer(text):
        parts.append(text[last : match.start()])
        left.extend(origins[last : match.start()])
        last = match.end()
    if not last:
        return None
    left.extend(origins[last:])
    return PlainForm("".join([*parts, text[last:]]), left)


@cache
def _ascii_forms() -> dict[int, str]:
    """The ASCII form of each typographic character: one for one, so that indices stay."""
    forms = {code: " " for code in _of_category("Zs")} | dict.fromkeys(map(ord, _DASHES), DASH)
    forms |= {code: str(unicodedata.decimal(chr(code))) for code in _of_category("Nd")}
    forms |= {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    forms |= dict.fromkeys(map(ord, _HYPHENS), "-")
    return forms | {ord(character): form for character, form in _ODD_FORMS.items()}


@cache
def _invisible() -> re.Pattern[str]:
    """Soft hyphens, zero-width and direction marks, variation selectors, tags, Hangul fillers.

    Format characters that are seen, such as the Arabic signs for numbers and years, are none.
    """
    shown = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    codes = {
        *_of_category("Cf"),
        0x34F,
        0x115F,
        0x1160,
        0x3164,
        0xFFA0,
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    }
    return re.compile(f"[{character_ranges(sorted(codes - shown))}]+")


@cache
def _typographic() -> re.Pattern[str]:
    """Any character that the plain form does without, but the dash and mark that may stay."""
    listed = character_ranges(sorted({*_ascii_forms(), ord(DASH), 0x30FC}))
    return re.compile(f"[{listed}{_invisible().pattern[1:-2]}]")


def _of_category(category: str) -> Iterator[int]:
    """The characters beyond ASCII of a general category, in the planes that have any."""
    for first, last in ((0x80, 0x1FFFF), (0xE0000, 0xE0FFF)):
        for code in range(first, last + 1):
            if unicodedata.category(chr(code)) == category:
                yield code
