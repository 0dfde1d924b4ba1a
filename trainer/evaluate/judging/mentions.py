"""Where a text mentions one of several names, and whether it claims it there as its answer."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.evaluate.judging.phrases import phrase
from trainer.evaluate.judging.plain_words import plain_words, unaccented

_BREAK = re.compile(
    r"(?<!\b[A-Za-z])[.!?](?=[\s\"')\]]|$)|[;:()\[\]\"\n]|,(?!\d{3}\b)|\s-+\s|\.{2,}"
)
_ENDS = re.compile(r"[.!?;\n]")

_NEGATIONS = {"not", "isnt", "wasnt", "arent", "never", "nor", "neither", "without", "cannot", "no"}
_DENIES_NOTHING = frozenset(
    {"only", "just", "merely", "doubt", "question", "hesitation", "secret", "other"}
)
"""Behind a negation: "not only Paris", "no doubt Paris"."""
_CORRECTION = re.compile(
    r"\b(?:no|wait|actually|sorry|rather|correction|i mean|pardon|oops|but now|is now|now it)\b"
)
PREPOSITIONS = {"by", "in", "on"}
"""What the members of a list may have each: "on land, on water or in the air"."""
_CONNECTED = {"and", "or", "maybe", "perhaps", "possibly", "also", "either", "both"} | PREPOSITIONS


@dataclass(frozen=True)
class Mention:
    """A name in a text, by its index among the names; its words are `start` to `end` (excluded)."""

    name: int
    start: int
    end: int


@dataclass(frozen=True)
class TextWords:
    """The plain words of a text.

    `capital`: whether each is written with a capital letter; `breaks`: what stands before each of
    them: "" nothing, "," a comma, bracket or colon, "." the end of a sentence.
    """

    words: tuple[str, ...]
    capital: tuple[bool, ...]
    breaks: tuple[str, ...]

    def before(self, index: int) -> str:
        """The words before `index`, back to the last comma, "but" or end of a sentence."""
        start = index
        while start and not self.breaks[start] and self.words[start - 1] not in {"but", "though"}:
            start -= 1
        return " ".join(self.words[start:index])

    def after(self, index: int) -> str:
        """The words from `index` to the next comma or end of a sentence."""
        end = index
        while end < len(self.words) and not self.breaks[end]:
            end += 1
        return " ".join(self.words[index:end])


def text_words(text: str) -> TextWords:
    """The plain words (`plain_words.py`) of a text, with the breaks between them."""
    plain = unaccented(text)
    words: list[str] = []
    capital: list[bool] = []
    breaks: list[str] = []
    start, pending = 0, "."
    for found in [*_BREAK.finditer(plain), None]:
        piece = plain[start : found.start() if found else len(plain)]
        shown = {word.casefold() for word in re.findall(r"\b[A-Z]\w*", piece)}
        for word in plain_words(piece).split():
            words.append(word)
            capital.append(word in shown)
            breaks.append(pending)
            pending = ""
        if found:
            start = found.end()
            pending = "." if pending == "." or _ENDS.search(found.group()) else ","
    return TextWords(tuple(words), tuple(capital), tuple(breaks))


def mentions(text: TextWords, names: Sequence[str]) -> Iterator[Mention]:
    """Where names stand in a text, in order, the longest where several do."""
    by_first: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for index, name in enumerate(names):
        words = tuple(plain_words(name).split())
        if words:
            by_first.setdefault(words[0], []).append((words, index))
    at = 0
    while at < len(text.words):
        found = [
            (len(words), index)
            for words, index in by_first.get(text.words[at], ())
            if text.words[at : at + len(words)] == words
        ]
        if found:
            length, index = max(found, key=lambda one: (one[0], -one[1]))
            yield Mention(index, at, at + length)
            at += length
        else:
            at += 1


def claims(text: TextWords, found: Sequence[Mention]) -> list[Mention]:
    """The mentions that the text gives as its answer: neither denied nor beside the point.

    A capital of a sort ("the historic capital of Japan") is given where the text has no other.
    """
    given = _given(text, found)
    others = [
        one for one in given if not phrase("mentions", "of_a_sort").match(text.after(one.end))
    ]
    return others or given


def _given(text: TextWords, found: Sequence[Mention]) -> list[Mention]:
    """The mentions that are neither denied nor beside the point."""
    claimed: list[Mention] = []
    left_out: Mention | None = None
    for mention in found:
        chained = left_out is not None and _only_connected(
            text, left_out.end, mention.start, {"nor"}
        )
        if chained or _denied(text, mention) or _beside_the_point(text, mention):
            left_out = mention
        else:
            left_out = None
            claimed.append(mention)
    return claimed


def last_word(text: TextWords, claimed: Sequence[Mention], same: Sequence[bool]) -> bool:
    """Whether the claims come out at the right answer; `same`: whether each of them is right.

    The first claim counts, unless it is taken back ("no, wait"); where others are joined to it
    ("A or B"), all have to be right.
    """
    if not claimed:
        return False
    verdict = same[0]
    for before, after, right in zip(claimed[:-1], claimed[1:], same[1:], strict=True):
        between = " ".join(text.words[before.end : after.start])
        if _CORRECTION.search(between):
            verdict = right
        elif _only_connected(text, before.end, after.start, set()):
            verdict = verdict and right
        else:
            break
    return verdict


def _denied(text: TextWords, mention: Mention) -> bool:
    near = text.before(mention.start).split()[-4:]
    for word, following in zip(near, [*near[1:], ""], strict=False):
        asks = word in {"isnt", "wasnt"} and following == "it"  # "Isn't it Paris?"
        if word in _NEGATIONS and following not in _DENIES_NOTHING and not asks:
            return True
    return bool(phrase("mentions", "denied_after").match(text.after(mention.end)))


def _beside_the_point(text: TextWords, mention: Mention) -> bool:
    """Whether a name is mentioned for comparison, from the past or as others' opinion."""
    return bool(phrase("mentions", "aside_before").search(text.before(mention.start)))


def _only_connected(text: TextWords, start: int, end: int, more: set[str]) -> bool:
    """Whether two mentions are parts of one list; the end of a sentence parts them."""
    between = text.words[start:end]
    return all(word in _CONNECTED | more for word in between) and (
        "." not in text.breaks[start : end + 1]
    )
