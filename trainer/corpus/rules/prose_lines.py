"""Whether lines read like prose, or like code, settings, tables and lists of words."""

import re
import unicodedata

from trainer.corpus.rules.joining import SPACELESS

LEAST_LETTERS = 0.72
"""Share of the characters, white space aside, that are letters in any prose."""
MOST_SYMBOLS = 0.06
"""Share of characters that are neither letters, digits, nor what prose is punctuated with."""
OTHERS = re.compile(r"[A-Za-z0-9.,;:!?'\"()-]+")
LEADERS = (".....", ". . . .", "____", "===", "------", "~~~~", "+--", "+-+", "\t")
IMPORT = re.compile(r"\s*(?:import [\w.]+(?: as \w+)?;?$|from [\w.]+ import [\w(])")
STATEMENT = re.compile(
    r"\s*(?:[\w.-]+:(?:\s|$)|(?:return|raise|assert|yield|let|var|const|local|set|export|echo)\b|.*[;{}]$)"
)
"""Lines of source code or of settings, and few of prose."""
SOUTH_EAST = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
VERSE_LINES = 4
UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]+")
"""Joiners, of which every word of Persian may have one, and marks of direction."""
UNPUNCTUATED = 3
"""Lines that no prose has without a mark; the scripts without spaces may do with none."""
MARK = re.compile("[.,;:!?\u037e\u055d\u0589\u060c\u061b\u061f\u06d4\u0964\u0965…]")
OPERATOR = re.compile(r"\s(?:[=<>]|[=!<>:+*/-]=|&&|\|\|)\s")
PUNCTUATION = frozenset(".,;:!?'\"()-–—―‘’“”„«»‹›…·、。，．！？；：「」『』（）《》〈〉।॥؟،؛۔")  # noqa: RUF001


def reads_like_prose(piece: list[str]) -> bool:
    """Whether its characters are mostly letters, with the marks that prose has between them."""
    text = UNSEEN.sub("", "".join("".join(piece).split()))
    letters = sum(map(str.isalpha, text))
    others = OTHERS.sub("", text) if text.isascii() else "".join(filter(_is_symbol, text))
    if not text.isascii():
        letters += sum(unicodedata.category(mark)[0] == "M" for mark in text if mark > "\u02ff")
    symbols = len(others)
    if letters < LEAST_LETTERS * len(text) or symbols > MOST_SYMBOLS * len(text):
        return False
    inside = "\n".join(map(str.strip, piece))
    if len(piece) >= UNPUNCTUATED and not (MARK.search(inside) or SPACELESS.search(inside)):
        return False
    # Of a script without capitals, an abbreviation such as RAID makes the whole "upper" to Python.
    if inside.isupper() and 2 * sum(map(str.isupper, inside)) > letters:
        return False
    if any(leader in inside for leader in LEADERS):
        return False
    if sum(OPERATOR.search(line) is not None for line in piece) * 2 >= len(piece):
        return False
    statements = sum(STATEMENT.match(line) is not None for line in piece)
    if statements * 2 >= max(len(piece), 4) or any(map(IMPORT.match, piece)):
        return False
    # Verse of Thai and its neighbours parts each line's halves by a space.
    gaps = {len(line.split()) - 1 for line in piece} if len(piece) >= VERSE_LINES else {0}
    if len(gaps) == 1 and 0 not in gaps and SOUTH_EAST.search(inside):
        return False
    if piece[0].lstrip().startswith('" '):  # A comment of vim.
        return False
    return not any(line.endswith(("\\", "{", "}", ";;", "|")) for line in piece)


def _is_symbol(character: str) -> bool:
    if character.isalnum() or character in PUNCTUATION:
        return False
    return unicodedata.category(character)[0] != "M"
