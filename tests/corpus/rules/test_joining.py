"""What stands between two lines that are joined: a space, a hyphen, a dash, or nothing."""

from itertools import pairwise

import pytest

from tests.corpus.rules.wrapped_texts import ENGLISH, book, paragraphs, wrapped
from trainer.corpus.rules.joining import Joiner
from trainer.corpus.rules.line_ends import columns
from trainer.corpus.rules.unwrap import unwrap


def cut_at(paragraph: str, width: int) -> str:
    """A paragraph cut where its columns reach the width, within words, too."""
    lines, used = [""], 0
    for letter in paragraph:
        if used + columns(letter) > width:
            lines, used = [*lines, ""], 0
        if lines[-1] or letter != " ":
            lines[-1] += letter
            used += columns(letter)
    return "\n".join(line.rstrip() for line in lines)


@pytest.mark.parametrize("width", range(60, 80, 3))
def test_korean_words_cut_at_any_syllable_are_whole_again(width: int) -> None:
    """Would catch a space put into the words of Korean, which terminal browsers cut at the edge; it
    stands between words that are known, as the text has them elsewhere.
    """
    whole = paragraphs("Korean")
    cut = [cut_at(one, width).split("\n") for one in whole]
    joiner = Joiner([*whole, *(line for lines in cut for line in lines)])
    for lines, one in zip(cut, whole, strict=True):
        parts = [lines[0]]
        for left, right in pairwise(lines):
            parts[-1:] = [*joiner.between(left, right), right]
        assert "".join(parts) == one
    kept = [wrapped(one, width // 2) for one in whole]
    assert unwrap(book(*kept))[0] == book(*whole), "negative control: words kept whole"


@pytest.mark.parametrize(
    ("left", "right", "elsewhere", "joined"),
    [
        ("a well-", "known", "", "a well-known"),
        ("the infor-", "mation", "", "the infor-mation"),
        ("the infor-", "mation", "no information", "the information"),
        ("the re-", "form", "a reform, or a re-form", "the re-form"),
        ("the pre-", "and post-war", "", "the pre- and post-war"),
        ("die Vor-", "und Nachteile", "", "die Vor- und Nachteile"),
        ("Anglo-", "Saxon", "", "Anglo-Saxon"),
        ("the infor\u00ad", "mation", "", "the information"),
        ("the infor\u2010", "mation", "", "the information"),
        ("the infor\u2010", "mation", "well\u2010known", "the infor\u2010mation"),
        ("1914-", "18", "", "1914-18"),
        ("he went -", "or so", "", "he went - or so"),
        ("he went--", "or so", "he came--or not", "he went--or so"),
        ("he went --", "or so", "he came -- or not", "he went -- or so"),
        ("he went—", "or so", "", "he went—or so"),
        ("用的是", "Python", "", "用的是Python"),
        ("用的是", "Python", "是 C 还是", "用的是 Python"),
    ],
)
def test_hyphens_and_dashes_at_line_ends(
    left: str, right: str, elsewhere: str, joined: str
) -> None:
    """Would catch a hyphen lost, a word left in two, or a space on the wrong side of a dash."""
    first, between = Joiner([elsewhere, left, right]).between(left, right)
    assert first + between + right == joined


def hyphenated(paragraph: str, width: int, hyphen: str) -> str:
    """A paragraph filled to the width, words cut wherever a line has room for two letters."""
    lines, line = [], ""
    for word in paragraph.split():
        filled = f"{line} {word}" if line else word
        if len(filled) <= width:
            line = filled
            continue
        room = min(width - len(line) - 2, len(word) - 2)
        if word.isalpha() and room > 1:
            line, word = f"{line} {word[:room]}{hyphen}", word[room:]
        lines.append(line)
        line = word
    return "\n".join([*lines, line])


@pytest.mark.parametrize("hyphen", ["\u00ad", "\u2010"])
@pytest.mark.parametrize("width", [62, 66])
def test_words_cut_at_line_ends_are_whole_again(width: int, hyphen: str) -> None:
    """Would catch a text taken for none because its lines end with hyphens, or a hyphen kept that
    no author wrote.
    """
    whole = (*paragraphs("German"), *paragraphs("French"), *ENGLISH)
    cut = book(*(hyphenated(one, width, hyphen) for one in whole))
    assert cut.count(f"{hyphen}\n") >= 5
    assert unwrap(cut)[0] == book(*whole)
