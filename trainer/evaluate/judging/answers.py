"""How an answer is judged: whether a text gives the right answer and no other.

Case, accents, articles, punctuation, curly quotes and numbers in words make no difference
(`plain_words.py`), and the answer may stand in a sentence: "The capital of France is Paris." The
first answer that a text claims counts; one that it denies ("not Paris"), takes back ("Lyon - no,
wait, Paris") or mentions beside the point ("near Paris", "formerly Paris", "many think it is
Paris") is none, and two that it joins ("Paris or Lyon") are wrong where one of them is. What is
neither the right answer nor a known rival is not seen as a claim, except directly behind "is".
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal

from trainer.evaluate.judging.abstention import Abstention, abstention
from trainer.evaluate.judging.expected import AskedAbout, ExpectedAnswer
from trainer.evaluate.judging.mentions import (
    PREPOSITIONS,
    Mention,
    TextWords,
    claims,
    last_word,
    mentions,
    text_words,
)
from trainer.evaluate.judging.phrases import lines, phrase
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.judging.signs import sign_is_right

AnswerVerdict = Literal["right", "wrong", "abstained"]

SAME_NAME = 0.8
"""Likeness of two spellings of one given name (`difflib`): Feodor and Fyodor have 0.83."""
_ONE = re.compile(
    r"(?P<before>^\W*|\b(?:is|number|just|only) |= ?)one(?=\W*$)|\bone(?= (?:single )?proton\b)",
    re.IGNORECASE,
)
"""The number one in words, where it is no pronoun."""
_NO_ATOMIC_NUMBERS = (
    re.compile(r"\d+(?= (?:\w+ )?(?:isotope|neutron|nucleon)s?\b)", re.IGNORECASE),
    re.compile(r"(?<=[a-z])-\d+\b", re.IGNORECASE),
    re.compile(r"\d+(?= (?:\w+ )?electrons?\b)", re.IGNORECASE),
)
"""Other numbers of an element: "10 isotopes", the mass in "carbon-12", "4 outer electrons".

All but the first may be the atomic number where a text has no other: "Au-79", "79 electrons".
"""
_SIGNED = re.compile(
    r"\b(?:signed|concluded)"
    r"(?! (?:.* )?(?:and|but|which|took|came|entered|until|before|after|since)\b)(?: \w+){0,6}$"
)
"""What tells the year of a treaty from others: "the war ended in 1918, it was SIGNED in 1919"."""
_INTRODUCES_A_YEAR = {"in", "it", "was", "is", "year"}
_COPULAS = {"is", "was", "by", "are", "were"}


def outcome(
    text: str, expected: ExpectedAnswer | None, about: AskedAbout | None = None
) -> tuple[AnswerVerdict, Abstention | None]:
    """What an answer comes to, and how it abstains.

    `expected` None: the question is about what does not exist, so that any answer is wrong. The
    very answer is right before it is looked at as a refusal ("No" is the symbol of nobelium).
    `about`: as for `abstention`.
    """
    if expected is not None and _is_exactly(text, expected):
        return "right", None
    if (why := abstention(text, about)) is not None:
        return "abstained", why
    return ("right" if expected is not None and is_right(text, expected) else "wrong"), None


def is_right(text: str, expected: ExpectedAnswer) -> bool:
    """Whether a text gives the right answer; see this module for what counts."""
    if expected.form == "sign":
        return sign_is_right(text, expected)
    if expected.form in ("year", "number"):
        return _number_is_right(text, expected)
    return _name_is_right(text, expected)


def _is_exactly(text: str, expected: ExpectedAnswer) -> bool:
    if expected.form == "sign":
        return text.strip(" .\n\"'`") in expected.right
    answer = plain_words(text)
    return bool(answer) and answer in {plain_words(name) for name in expected.right}


def _number_is_right(text: str, expected: ExpectedAnswer) -> bool:
    # `plain_words` leaves a lone "one", being a pronoun too.
    text = _ONE.sub(lambda found: f"{found['before'] or ''} 1", text)
    if expected.form == "number":
        text = _without_other_numbers(text)
    whole = re.sub(r"\d*\.\d+", " fraction ", re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", text))
    words = text_words(whole)
    asked = set(text_words(expected.question).words)
    found = [
        Mention(0, index, index + 1)
        for index, word in enumerate(words.words)
        if word.isdecimal() and word not in asked and _in_range(word, expected.form)
    ]
    claimed = claims(words, found)
    if expected.form == "year":
        claimed = _from_the_signed(words, claimed)
    right = {plain_words(name) for name in expected.right}
    return last_word(words, claimed, [words.words[one.start] in right for one in claimed])


def _without_other_numbers(text: str) -> str:
    """The text without the numbers of an element that are not its atomic one.

    What may be it stays where the text would have no number without: electrons, then a mass.
    """
    text = _NO_ATOMIC_NUMBERS[0].sub("", text)
    for patterns in (_NO_ATOMIC_NUMBERS[1:], _NO_ATOMIC_NUMBERS[1:2]):
        rest = text
        for pattern in patterns:
            rest = pattern.sub("", rest)
        if any(word.isdecimal() for word in plain_words(rest).split()):
            return rest
    return text


def _from_the_signed(words: TextWords, years: list[Mention]) -> list[Mention]:
    """The years from the first that is said to be that of signing; all where none is.

    All, too, where the text begins with its answer: "1923. It replaced a treaty signed in 1920."
    """
    if years and _is_the_answer(words, years[0]):
        return years
    start = 0
    for index, year in enumerate(years):
        if _SIGNED.search(" ".join(words.words[start : year.start])):
            return years[index:]
        start = year.end
    return years


def _is_the_answer(words: TextWords, year: Mention) -> bool:
    """Whether a text begins with a year alone: a sentence, or before a bracket on another thing."""
    if not set(words.words[: year.start]) <= _INTRODUCES_A_YEAR:
        return False
    parts, following = words.breaks[year.end : year.end + 1], words.words[year.end : year.end + 1]
    of_the_same = set(following) & {"signed", "concluded", "it"}
    return parts == (".",) or (parts == (",",) and not (year.start or of_the_same))


def _in_range(word: str, form: str) -> bool:
    return 100 <= int(word) <= 2100 if form == "year" else int(word) <= 999


def _name_is_right(text: str, expected: ExpectedAnswer) -> bool:
    words = text_words(text)
    right = _with_surnames(expected) if expected.form == "person" else list(expected.right)
    own = {plain_words(name) for name in right}
    rivals = [name for name in expected.rivals if plain_words(name) not in own]
    asked = f" {plain_words(expected.question)} "
    names = [*right, *rivals, *lines("mentions", "region")]
    known = len(right) + len(rivals)
    found = [one for one in mentions(words, names) if one.name < known]
    question = text_words(expected.question)
    choices = {one.name for one in mentions(question, names) if one.name < known}
    found = [
        one
        for one in found
        if not _echo(words, one, asked) or (len(choices) > 1 and _offered(words, one, question))
    ]
    claimed = claims(words, found)
    same = [
        one.name < len(right)
        and not (expected.form == "person" and _other_given_name(words, one, expected.right))
        and not _of_another_country(words, one, right)
        for one in claimed
    ]
    if claimed and same[0] and _other_name_beside(words, claimed, asked):
        return False
    return last_word(words, claimed, same)


def _with_surnames(expected: ExpectedAnswer) -> list[str]:
    """The right names, with their last words where no rival ends in them."""
    taken = {plain_words(rival).split()[-1] for rival in expected.rivals}
    surnames = [name.split()[-1] for name in expected.right if " " in name]
    free = [name for name in surnames if plain_words(name) not in taken]
    return [*expected.right, *dict.fromkeys(free)]


def _echo(words: TextWords, mention: Mention, asked: str) -> bool:
    """Whether a mention repeats the question: "the capital OF LUXEMBOURG is Luxembourg"."""
    if words.breaks[mention.start]:  # a list: "mammal, bird, reptile"
        return False
    before = words.words[max(0, mention.start - 1) : mention.end]
    return len(before) > mention.end - mention.start and f" {' '.join(before)} " in asked


def _offered(words: TextWords, mention: Mention, question: TextWords) -> bool:
    """Whether the question gives what is mentioned to choose from: "by BLOWING, bowing or beating".

    It stands beside a comma or "or" there, with a preposition at most between.
    """
    if "or" not in question.words:
        return False
    named = words.words[mention.start : mention.end]
    for start in range(len(question.words) - len(named) + 1):
        end = start + len(named)
        if question.words[start:end] != named:
            continue
        first = start - 1 if start and question.words[start - 1] in PREPOSITIONS else start
        if first and (question.breaks[first] == "," or question.words[first - 1] == "or"):
            return True
        if question.words[end : end + 1] == ("or",) or question.breaks[end : end + 1] == (",",):
            return True
    return False


def _other_given_name(words: TextWords, mention: Mention, right: tuple[str, ...]) -> bool:
    """Whether another's given name stands before a surname: Alexei Tolstoy is not Leo."""
    if mention.end - mention.start > 1:
        return False
    start = mention.start
    while (
        start
        and words.capital[start - 1]
        and not words.breaks[start]
        and not _is_title(words.words[start - 1])
    ):
        start -= 1
    given = words.words[start]
    own = {part for name in right for part in plain_words(name).split()}
    initials = {part[0] for part in own}
    return (
        start < mention.start
        and given not in own
        and given[:1] not in {part for part in own if len(part) == 1}
        and not (len(given) == 1 and given in initials)
        and not get_close_matches(given, own, 1, SAME_NAME)
    )


def _of_another_country(words: TextWords, mention: Mention, right: Sequence[str]) -> bool:
    """Whether a bare currency is another country's: "Irish pound", where "British pound" is right.

    Only where the right names say whose it is.
    """
    origin = phrase("mentions", "origin")
    own = {word for name in right for word in plain_words(name).split()}
    before = words.words[mention.start - 1] if mention.start else ""
    return (
        mention.end - mention.start == 1
        and not words.breaks[mention.start]
        and before not in own
        and origin.fullmatch(before) is not None
        and any(" " in name and origin.fullmatch(plain_words(name).split()[0]) for name in right)
    )


def _other_name_beside(words: TextWords, claimed: Sequence[Mention], asked: str) -> bool:
    """Whether a name that no list has stands beside the first claim: "Canberra or Wagga Wagga"."""
    end = claimed[0].end
    listed = {one.start for one in claimed}
    if words.words[end : end + 1] == ("or",) and not words.breaks[end] and end + 1 not in listed:
        following = words.words[end + 1 : end + 2]
        if following and words.capital[end + 1] and f" {following[0]} " not in asked:
            return True
    return _other_name_before(words, claimed[0], asked)


def _other_name_before(words: TextWords, mention: Mention, asked: str) -> bool:
    """Whether a name stands between "is" and the first claim: "is Wagga Wagga, by Canberra"."""
    start = mention.start
    while start and words.words[start - 1] not in _COPULAS and words.breaks[start] != ".":
        start -= 1
    if not start or words.words[start - 1] not in _COPULAS:
        return False
    for index in range(start, mention.start):
        word = words.words[index]
        strange = words.capital[index] and f" {word} " not in asked and not _is_title(word)
        if not strange or (index > start and words.breaks[index]):
            return False
        if words.breaks[index + 1] == ",":
            return True
    return False


def _is_title(word: str) -> bool:
    """Whether a word before a name is no part of it: a title, or where somebody is from."""
    return bool(phrase("mentions", "title").fullmatch(word))
