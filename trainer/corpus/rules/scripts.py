"""The letters of scripts that put no spaces between words, and the marks that belong to letters.

Where no spaces tell words apart, each letter, with the marks upon it, counts as a word: Chinese,
Japanese, Thai, Lao, Khmer and Burmese text is then compared and measured in parts as small as
those of other text, without a dictionary.
"""

import unicodedata
from collections.abc import Iterable
from functools import cache

UNSPACED_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK and Kangxi radicals
    (0x3005, 0x3007),  # 々〆〇
    (0x3021, 0x3035),  # Hangzhou numerals, kana repeat marks
    (0x3041, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana phonetic extensions
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK unified ideographs
    (0xA9E0, 0xA9FF),  # Myanmar extended B
    (0xAA60, 0xAA7F),  # Myanmar extended A
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0xFF66, 0xFF9F),  # halfwidth Katakana
    (0x1AFF0, 0x1B16F),  # Kana extended and supplement
    (0x20000, 0x3347F),  # CJK extensions B to J
)
"""First and last code point of each. Source: Unicode, Blocks.txt."""
JOINERS = (0xAD, 0x200C, 0x200D, 0x2060)
"""What words may hold unseen: soft hyphen, zero width non-joiner and joiner, word joiner."""
ZERO_WIDTH_SPACES = "\u200b\ufeff"
"""They part words, of Khmer above all, and are no symbols."""
LAST_MARK = 0x1FFFF
"""Behind it stand no marks but variation selectors, which Python's patterns take for symbols."""


@cache
def unspaced_letters() -> str:
    """The letters of these scripts as the inside of a character class of `re`."""
    return character_ranges(
        code
        for first, last in UNSPACED_BLOCKS
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)) in ("Lo", "Lm", "Nl")
    )


@cache
def marks() -> str:
    """The combining marks of all scripts, and JOINERS, as the inside of a character class of `re`.

    They are no word characters to `re`, though vowels of Hindi, Thai and others are among them.
    """
    return character_ranges(
        code
        for code in range(LAST_MARK + 1)
        if code in JOINERS or unicodedata.category(chr(code))[0] == "M"
    )


@cache
def word_or_symbol_pattern() -> str:
    """A pattern for a word (letters, digits and underscores with their marks, or one letter of the
    scripts without spaces) or for a symbol.
    """
    letters, marked = unspaced_letters(), marks()
    word = rf"[^\W{letters}]+(?:[{marked}]+[^\W{letters}]*)*|[{letters}][{marked}]*"
    return rf"{word}|[^\w\s{ZERO_WIDTH_SPACES}]"


def character_ranges(codes: Iterable[int]) -> str:
    """Ascending code points as ranges of a character class of `re`, which is slow on lists."""
    found: list[list[int]] = []
    for code in codes:
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found)
