"""The form in which texts are compared: letters and digits, one space, no case, no accents."""

import re
import unicodedata
from functools import cache, lru_cache

from trainer.evaluate.judging.phrases import lines

_CURLY = str.maketrans(
    "\u2018\u2019\u201b\u02bc\u2032`\u00b4\u201c\u201d\u201e\u2033", "'''''''\"\"\"\""
)
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_LETTERS = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "\u0131": "i"}
)


def unaccented(text: str) -> str:
    """The text with plain quotes and hyphens, without accents, sub- and superscripts.

    Case and punctuation stay; "H₂O" becomes "H2O", "São Tomé" becomes "Sao Tome".
    """
    plain = _DASHES.sub("-", text.translate(_CURLY).translate(_LETTERS))
    decomposed = unicodedata.normalize("NFKD", plain)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@lru_cache(maxsize=1 << 14)
def plain_words(text: str) -> str:
    """The words of a text with one space between: no case, accents, punctuation or articles.

    A possessive 's goes, and other apostrophes inside words without a trace ("Xi'an" is "xian");
    "&" is "and", other signs part words; numbers in words become digits ("seventy-nine" is "79").
    """
    letters = re.sub(r"(?<=\w)'s\b", "", unaccented(text).casefold())
    letters = re.sub(r"(?<=\w)'(?=\w)", "", letters).replace("&", " and ")
    # "1,919" is one number; "in 1918, 1919" are two.
    letters = re.sub(r"(?<=\d),(?=\d{3}\b)", "", letters)
    words = re.sub(r"[^\w]+|_", " ", letters).split()
    return with_digits(" ".join(word for word in words if word not in {"a", "an", "the"}))


@cache
def _number_words() -> dict[str, int]:
    values = {word: value for value, word in enumerate(lines("numbers", "units"))}
    return values | {word: 10 * ten for ten, word in enumerate(lines("numbers", "tens"), start=2)}


@cache
def _spelled() -> re.Pattern[str]:
    word = "|".join(sorted(_number_words(), key=len, reverse=True))
    part = rf"(?:{word}|hundred|thousand)"
    return re.compile(rf"\b(?:{word})(?: (?:and )?{part})*\b")


def with_digits(words: str) -> str:
    """Lower-case words with the numbers that are written out in digits: "nineteen eighteen" 1918.

    Hundreds, thousands and years by two pairs are read; "one" alone stays, being a pronoun too.
    """
    return _spelled().sub(lambda found: _digits(found.group()), words)


def _digits(spelled: str) -> str:
    words = [word for word in spelled.split() if word != "and"]
    if words == ["one"]:
        return spelled
    groups: list[int] = []  # numbers below 100 that follow one another: the pairs of a year
    total = group = 0
    size = 100  # what the next word must stay below to belong to the same number
    started = False
    for word in words:
        if word == "hundred":
            group, size = max(group, 1) * 100, 100
        elif word == "thousand":
            total, group, size = total + max(group, 1) * 1000, 0, 100
        else:
            value = _number_words()[word]
            if started and value >= size:
                groups.append(total + group)
                total = group = 0
            group += value
            size = 10 if value >= 20 else 1
        started = True
    groups.append(total + group)
    if len(groups) == 2 and 10 <= groups[0] <= 20 and 10 <= groups[1] < 100:
        return str(100 * groups[0] + groups[1])
    return " ".join(map(str, groups))
