"""The word lists of the rules: the text files in words/, and one that a recipe may name."""

import re
import unicodedata
from functools import cache
from pathlib import Path

from trainer.corpus.rules.scripts import unspaced_letters
from trainer.errors import DataError, RecipeError

FOLDER = Path(__file__).with_name("words")
BEHIND_WORDS = ".:=#°º'\"(\uff1a"
MOST_BEHIND = 5
KINDS = ("slur", "toxic")


@cache
def listed(name: str) -> tuple[str, ...]:
    """The lines of `words/NAME.txt`, without comments and empty lines."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


@cache
def pairs(name: str) -> tuple[tuple[str, str], ...]:
    """The word pairs of a list with two words a line."""
    split = (line.split() for line in listed(name))
    return tuple((first, second) for first, second in split)


def ends_with_listed(text: str, name: str) -> bool:
    """Whether a text ends with one of a list's words, of any case: whole, where spaces part words.

    A full stop, a colon and the like may stand behind the word, and two white spaces.
    """
    lowered = text.rstrip().rstrip(BEHIND_WORDS).rstrip().lower()
    if len(text) > len(lowered) + MOST_BEHIND or not lowered.endswith(listed(name)):
        return False
    for word in listed(name):
        if lowered.endswith(word):
            before = lowered[-len(word) - 1 : -len(word)]
            if not (before.isalnum() or before in ("_", "[")) or _is_unspaced(word[0]):
                return True
    return False


@cache
def listed_words(name: str) -> str:
    """A pattern for one of a list's words: whole, where spaces part words."""
    words = sorted(listed(name), key=len, reverse=True)
    whole = "|".join(re.escape(word) for word in words if not _is_unspaced(word[0]))
    anywhere = "|".join(re.escape(word) for word in words if _is_unspaced(word[0]))
    return rf"(?<![\w\[])(?:{whole})(?![^\W\d_{unspaced_letters()}])|(?:{anywhere or '(?!)'})"


@cache
def _is_unspaced(letter: str) -> bool:
    return re.match(f"[{unspaced_letters()}\uac00-\ud7a3]", letter) is not None


def with_plurals(word: str) -> tuple[str, str]:
    """A noun and its regular plural; a plural that does not exist does no harm in a list."""
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word, f"{word[:-1]}ies"
    if word.endswith(("ch", "sh", "s", "x", "z")):
        return word, f"{word}es"
    return word, f"{word}s"


@cache
def further_words(path: str) -> tuple[tuple[str, str], ...]:
    """(kind, word) of each line of `corpus.rules.toxicity.words`.

    A line is `slur` or `toxic`, a tab, and a word; empty lines and lines that begin with # are
    skipped. Raises RecipeError for a file that cannot be read, DataError with file and line for a
    bad line.
    """
    key = "corpus.rules.toxicity.words"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecipeError(
            f"{key}: cannot read {path}: {error.strerror or error}; mend the path"
        ) from None
    found = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        where = f"{path} line {number}"
        try:
            text = unicodedata.normalize("NFC", line.decode("utf-8"))
        except UnicodeDecodeError:
            raise DataError(f"{where} is not UTF-8; convert the file to UTF-8") from None
        if not text.strip() or text.startswith("#"):
            continue
        kind, tab, word = text.partition("\t")
        kind, word = kind.strip(), word.strip()
        if not tab or kind not in KINDS:
            raise DataError(
                f"{where} is not `slur` or `toxic`, a tab, and a word ({_short(text)}); mend it"
            )
        if not word.isalpha():
            raise DataError(
                f"{where}: {_short(word)} is not one word of letters alone; give a word a line"
            )
        found.append((kind, word.lower()))
    return tuple(found)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
