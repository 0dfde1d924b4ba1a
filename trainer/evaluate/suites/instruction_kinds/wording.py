"""Instructions on which words, letters and language an answer is made of."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from trainer.corpus.rules.language import find_language
from trainer.evaluate.suites.instruction_kinds.amounts import (
    NUMBERED,
    count_words,
    lines_of,
    words_of,
)


def begins_with(text: str, start: str) -> bool:
    """The answer begins with exactly this, a last word of it whole."""
    rest = text.lstrip().removeprefix(start)
    return text.lstrip().startswith(start) and not (start[-1].isalnum() and rest[:1].isalnum())


def ends_with(text: str, end: str) -> bool:
    """The answer ends with exactly this, a first word of it whole."""
    said = text.rstrip()
    before = said.removesuffix(end)
    return said.endswith(end) and not (end[0].isalnum() and before[-1:].isalnum())


def contains(text: str, words: Sequence[str]) -> bool:
    """Each of these words stands in it, as a whole word in any case."""
    return all(count_words(text, word) for word in words)


def omits(text: str, words: Sequence[str]) -> bool:
    """None of these words stands in it, as a whole word in any case."""
    return not any(count_words(text, word) for word in words) and bool(words_of(text))


def omits_letter(text: str, letter: str) -> bool:
    """The letter stands nowhere, in neither case; other letters do."""
    return letter.casefold() not in text.casefold() and any(map(str.isalpha, text))


def no_commas(text: str) -> bool:
    """No comma, of no script; but words."""
    return not set(text) & set(",\u060c\u3001\uff0c") and bool(words_of(text))


def no_digits(text: str) -> bool:
    """No digit and no sign that is a number, as a half's; but words."""
    numbers = any(unicodedata.category(sign) in ("Nd", "No") for sign in text)
    return not numbers and bool(words_of(text))


def repeats(text: str, request: str) -> bool:
    """It begins with the request word for word, and goes on; white space aside."""
    said, asked = " ".join(text.split()), " ".join(request.split())
    return said.startswith(asked) and bool(words_of(said[len(asked) :]))


def copies(text: str, wanted: str) -> bool:
    """It is this and nothing else; white space at both ends aside."""
    return text.strip() == wanted


def one_word(text: str) -> bool:
    """One word, with a point or mark behind it or none."""
    return len(text.split()) == 1 and len(words_of(text)) == 1


def one_of(text: str, options: Sequence[str]) -> bool:
    """One of these and nothing else, in any case, with one . or ! behind it or none."""
    said = re.sub(r"[.!]$", "", text.strip()).casefold()
    return said in {option.casefold() for option in options}


def number_only(text: str) -> bool:
    """A number in digits and nothing else: with a sign, decimals, commas between thousands."""
    return bool(re.fullmatch(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?", text.strip()))


def sorted_lines(text: str, least: int, words: Sequence[str] | None = None) -> bool:
    """At least so many lines without numbers, all different, in alphabetical order.

    Case is put aside, and accents, spaces and marks may be. `words`: what the lines are, where they
    are given.
    """
    found = [line.casefold() for line in lines_of(text)]
    if words is not None and set(found) != {word.casefold() for word in words}:
        return False
    if any(map(NUMBERED.match, found)) or len(set(found)) != len(found) or len(found) < least:
        return False
    plain = [
        "".join(sign for sign in unicodedata.normalize("NFKD", line) if not _is_accent(sign))
        for line in found
    ]
    letters = ["".join(filter(str.isalnum, line)) for line in plain]
    return any(way == sorted(way) for way in (found, plain, letters))


def _is_accent(sign: str) -> bool:
    return bool(unicodedata.combining(sign))


def words_in_order(text: str, words: Sequence[str]) -> bool:
    """These words in this order, and no other; case and punctuation aside."""
    return [word.casefold() for word in words_of(text)] == [word.casefold() for word in words]


def in_language(text: str, code: str) -> bool:
    """At least five different words, of this language as the corpus's language rule finds it."""
    return len({word.casefold() for word in words_of(text)}) >= 5 and find_language(text)[0] == code


def same_start(text: str, start: str, number: int) -> bool:
    """Exactly so many lines, each of which begins with exactly this, a last word of it whole."""
    found = lines_of(text)
    return len(found) == number and all(begins_with(line, start) for line in found)


def postscript(text: str) -> bool:
    """Behind other text, a last paragraph that says something begins, on its line, with P.S."""
    *before, said = re.split(r"\n[ \t]*P\.\s?S\.", f"\n{text.strip()}")
    return any(map(words_of, before)) and bool(words_of(said)) and "\n\n" not in said


WORDING: Mapping[str, Callable[..., bool]] = {
    "begins with": begins_with,
    "ends with": ends_with,
    "contains words": contains,
    "omits words": omits,
    "omits a letter": omits_letter,
    "no commas": no_commas,
    "no digits": no_digits,
    "repeats the request": repeats,
    "copies a text": copies,
    "one word": one_word,
    "yes or no": one_of,
    "one of several": one_of,
    "a number only": number_only,
    "sorted list": sorted_lines,
    "reversed order": words_in_order,
    "language": in_language,
    "same start of lines": same_start,
    "postscript": postscript,
}
"""Checks by kind."""
