"""The word lists of the rules: the text files in words/, and one that a recipe may name."""

import unicodedata
from functools import cache
from pathlib import Path

from trainer.errors import DataError, RecipeError

FOLDER = Path(__file__).with_name("words")
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
