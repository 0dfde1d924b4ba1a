"""Typing errors in the words that abstentions are made of: "im not suer", "I cant remeber"."""

import re
from functools import cache

from trainer.evaluate.judging.phrases import lines

SHORTEST_WITH_A_LETTER_WRONG = 6
"""Below so many letters a letter left out or doubled may make another word: "sore", "sory"."""
_WORD = re.compile(r"[a-z]{4,}")


def respelled(text: str) -> str:
    """Lower-case text, its mistyped words (`phrases/spelling.txt`) as they are meant.

    Two neighbouring letters exchanged, in words of six letters or more one left out or doubled too.
    """
    return _WORD.sub(lambda found: _mistyped().get(found.group(), found.group()), text)


@cache
def _mistyped() -> dict[str, str]:
    """Each mistyped word -> the word meant; what is a word itself is none."""
    words = lines("spelling", "words")
    meant = dict(line.split(" ") for line in lines("spelling", "by_ear"))
    for word in words:
        for wrong in _typing_errors(word):
            meant.setdefault(wrong, word)
    for word in (*words, *lines("spelling", "other_words")):
        meant.pop(word, None)
    return meant


def _typing_errors(word: str) -> set[str]:
    at = range(len(word))
    wrong = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in at[:-1]}
    if len(word) >= SHORTEST_WITH_A_LETTER_WRONG:
        wrong |= {word[:i] + word[i + 1 :] for i in at} | {
            word[:i] + word[i] + word[i:] for i in at
        }
    return wrong
