"""Instructions on how much of something an answer has."""

import re
from collections.abc import Callable, Mapping

_WORD = re.compile(r"[^\W_]+(?:(?:['\u2019-]|(?<=\d)[.,:](?=\d))[^\W_]+)*")
_SENTENCE_END = re.compile(
    r"[.!?\u2026]+(?P<closing>[\"'\u201d\u2019)\]*_]*)(?=\s|$|(?<=[a-z][.!?])[A-Z][a-z])"
)
_NO_SENTENCE_END = re.compile(
    r"(?:\b(?:[MmDd]rs?|[Mm]s|[Pp]rof|St|Mt|Capt|Gen|Rev|vs|approx|e\.g|i\.e)|(?:^|\n)\s*\d+)$"
)
_INITIAL = re.compile(r"\b[A-HJ-Z]$")
_ABBREVIATION = re.compile(
    r"\b(?:etc|Inc|Ltd|Co|Corp|Jr|Sr|[Nn]os?|Fig|[Vv]ol|[ap]\.m|Ph\.D|hrs?|mins?|Jan|Feb|Aug|Sept?"
    r"|Oct|Nov|Dec)$"
)
_BEGINS_A_SENTENCE = re.compile(
    r"\s+[\"'\u201c\u2018(*_]*(?:The|This|That|These|Those|It|He|She|They|We|You|I|In|On|At|If|When"
    r"|There|Then|But|And|So|A|An|His|Her|Its|Their|My|Our|Your)\b"
)
_BULLET = re.compile(r"^\s*([-*\u2022+])\s+\S")
NUMBERED = re.compile(r"^\s*(\d+)[.)]\s+\S")


def words_of(text: str) -> list[str]:
    """The words of a text: letters and digits.

    Hyphens and apostrophes inside a word are of it, and what stands inside a number: 3.5, 1,000.
    """
    return _WORD.findall(text)


def lines_of(text: str) -> list[str]:
    """The lines that are not blank, without white space around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def count_sentences(text: str) -> int:
    """The number of sentences: what ends in . ! or ?, and a rest that does not.

    The point of an abbreviation (Dr., e.g.), of an initial, of a decimal or of a list's number ends
    none, nor do points that stand for a pause, or what ends a quotation, where the sentence goes on
    behind them.
    """
    first = number = 0
    for end in _SENTENCE_END.finditer(text):
        if _goes_on(text[first : end.start()], end.group(), text[end.end() :]):
            continue
        number += bool(words_of(text[first : end.start()]))
        first = end.end()
    return number + bool(words_of(text[first:]))


def _goes_on(before: str, marks: str, after: str) -> bool:
    """Whether a sentence goes on behind these marks."""
    follows = after.lstrip()[:1]
    if marks[-1:] in "\"'\u201d\u2019)]" and follows.islower():
        return True
    if marks in ("\u2026", "..", "..."):
        return follows.islower()
    if marks != ".":
        return False
    if _ABBREVIATION.search(before):
        return follows.islower() or follows.isdigit()
    if _INITIAL.search(before):
        return not _BEGINS_A_SENTENCE.match(after)
    return bool(_NO_SENTENCE_END.search(before))


def count_words(text: str, word: str) -> int:
    """How often a word or phrase stands in the text as whole words, in any case."""
    return len(re.findall(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text, re.IGNORECASE))


def word_count_between(text: str, least: int = 1, most: int | None = None) -> bool:
    """At least so many words, and at most so many."""
    number = len(words_of(text))
    return least <= number and (most is None or number <= most)


def sentences(text: str, number: int) -> bool:
    """Exactly so many sentences."""
    return count_sentences(text) == number


def paragraphs(text: str, number: int) -> bool:
    """Exactly so many paragraphs, with blank lines between them."""
    return len([part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]) == number


def lines(text: str, number: int) -> bool:
    """Exactly so many lines that are not blank."""
    return len(lines_of(text)) == number


def bullets(text: str, number: int, mark: str | None = None) -> bool:
    """Exactly so many lines that begin with a bullet (- * + or a dot) and a space.

    `mark`: the bullet that each has, where one is asked for.
    """
    found = [line[1] for line in map(_BULLET.match, text.splitlines()) if line]
    return len(found) == number and (mark is None or set(found) <= {mark})


def numbered_list(text: str, number: int) -> bool:
    """Lines numbered 1 to `number`, in order; other lines may stand between."""
    found = [int(line[1]) for line in map(NUMBERED.match, text.splitlines()) if line]
    return found == list(range(1, number + 1))


def word_times(text: str, word: str, number: int) -> bool:
    """A word, as a whole word in any case, at least so many times."""
    return count_words(text, word) >= number


def letter_times(text: str, letter: str, number: int) -> bool:
    """A letter, in either case, at least so many times."""
    return text.casefold().count(letter.casefold()) >= number


def short_words(text: str, letters: int) -> bool:
    """No word of more than so many letters; the parts of a hyphenated word are words."""
    parts = [part for word in words_of(text) for part in word.split("-")]
    return bool(parts) and all(sum(map(str.isalpha, part)) <= letters for part in parts)


def no_word_twice(text: str, least: int) -> bool:
    """No word twice, in any case, and at least so many words."""
    found = [word.casefold() for word in words_of(text)]
    return len(found) >= least and len(set(found)) == len(found)


def bold_parts(text: str, number: int) -> bool:
    """At least so many parts in bold, as Markdown has it: **so**."""
    return len(re.findall(r"\*\*(?=[^\s*])(?:[^*\n]|\*(?!\*))+?(?<=\S)\*\*", text)) >= number


def placeholders(text: str, number: int) -> bool:
    """At least so many places to be filled in, in square brackets, as [name]; no links."""
    return len(re.findall(r"\[[^\[\]\n]*\w[^\[\]\n]*\](?!\()", text)) >= number


AMOUNTS: Mapping[str, Callable[..., bool]] = {
    "words at least": word_count_between,
    "words at most": word_count_between,
    "words between": word_count_between,
    "sentences": sentences,
    "paragraphs": paragraphs,
    "lines": lines,
    "bullets": bullets,
    "numbered list": numbered_list,
    "word n times": word_times,
    "letter n times": letter_times,
    "short words": short_words,
    "no word twice": no_word_twice,
    "bold parts": bold_parts,
    "placeholders": placeholders,
}
"""Checks by kind."""
