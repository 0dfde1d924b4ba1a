"""What stands between two lines of one paragraph when they are joined."""

import re
from collections import Counter

from trainer.corpus.rules.hangul import HANGUL, HangulWords

SCRIPTS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff"
    "\uaa60-\uaa7f\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Han, Kana, and full-width forms: no spaces between words."""
SPACELESS = re.compile(f"[{SCRIPTS}]")
MIXED = re.compile(rf"[{SCRIPTS}]( ?)[A-Za-z0-9]|[A-Za-z0-9]( ?)[{SCRIPTS}]")
HYPHENS = ("-", "\u2010", "\u2011")
TYPESET = "\u2010"
SOFT_HYPHEN = "\u00ad"
LAST_LETTERS = re.compile(r"(?<![\w'’])[^\W\d_]{2,}$")  # noqa: RUF001
LONGEST_WORD = 40
DASHES = ("--", "—", "–", "―")  # noqa: RUF001
DASH_LETTERS = "-—–―"  # noqa: RUF001
DASH = re.compile(r"\S(?:--+|[—–―])( ?)\S")  # noqa: RUF001
WORD = re.compile(r"[^\W\d_]+(?:[-'’\u2010][^\W\d_]+)*")  # noqa: RUF001
CONJUNCTIONS = {"and", "or", "nor", "to", "but"} | {"und", "oder", "bzw", "bis", "en", "of", "och"}
CONJUNCTIONS |= {"eller", "og", "et", "ou", "y", "o", "e", "i", "lub", "и", "или"}
"""Words behind a hyphen that stands for the rest of a word: "pre- and post-war"."""


class Joiner:
    """Joins the lines of one text, with its own practice as the guide.

    A hyphen at a line's end stays ("well-" and "known" are "well-known"), unless the text has the
    joined word elsewhere and the hyphenated one nowhere ("infor-" and "mation" where it has
    "information"); a soft hyphen goes, and U+2010 where the text has it at line ends alone, as
    groff sets it. Dashes, and Latin letters beside Han or Kana, are set with
    or without a space as in most of their places within the text's lines. Between letters of
    scripts without spaces there is none, nor within the words of Korean cut at any syllable.
    """

    def __init__(self, lines: list[str]):
        self._lines = lines
        self._hangul = HangulWords(lines)
        self._words: set[str] | None = None
        self._spaced: dict[str, bool] = {}
        self._typeset: bool | None = None

    def between(self, left: str, right: str) -> tuple[str, str]:
        """(the left line, with a hyphen less where that goes; what separates it from the right).

        `left` has no white space at its end, `right` none at its start.
        """
        if left.endswith(SOFT_HYPHEN):
            return left[:-1], ""
        if left.endswith(HYPHENS) and not left.endswith("--"):
            return self._hyphenated(left, right)
        spaceless = [bool(SPACELESS.match(right)), bool(SPACELESS.match(left[-1:]))]
        if any(spaceless):
            space = not all(spaceless) and self._has_space("mixed", MIXED)
        elif left.endswith(DASHES) or right.startswith(DASHES):
            apart = left.rstrip(DASH_LETTERS)[-1:] == " " or right.lstrip(DASH_LETTERS)[:1] == " "
            space = apart or self._has_space("dash", DASH)
        elif HANGUL.match(left[-1:]) and HANGUL.match(right) and self._hangul.cut_anywhere:
            space = not self._hangul.go_on(left, right)
        else:
            space = True
        return left, " " if space else ""

    def _hyphenated(self, left: str, right: str) -> tuple[str, str]:
        following = WORD.match(right)
        if not left[-2:-1].isalnum() or (following and following[0].lower() in CONJUNCTIONS):
            return left, " "
        if left.endswith(TYPESET) and not self._has_typeset_hyphens_inside():
            return left[:-1], ""
        part = LAST_LETTERS.search(left, max(0, len(left) - LONGEST_WORD), len(left) - 1)
        if part and following and following[0][0].islower():
            rest = re.split(r"[-\u2010]", following[0])[0]
            words = self._known_words()
            joined, hyphenated = part[0] + rest, f"{part[0]}-{rest}"
            if joined.lower() in words and hyphenated.lower() not in words:
                return left[:-1], ""
        return left, ""

    def _known_words(self) -> set[str]:
        if self._words is None:
            self._words = set()
            for line in self._lines:
                found = [word.lower().replace("\u2010", "-") for word in WORD.findall(line)]
                self._words.update(found)
        return self._words

    def _has_typeset_hyphens_inside(self) -> bool:
        if self._typeset is None:
            self._typeset = any(TYPESET in line[:-1] for line in self._lines)
        return self._typeset

    def _has_space(self, name: str, pattern: re.Pattern[str]) -> bool:
        """Whether most places in the lines that match have a space."""
        if name not in self._spaced:
            counts: Counter[bool] = Counter()
            for line in self._lines:
                counts.update(any(match.groups()) for match in pattern.finditer(line))
            self._spaced[name] = counts[True] > counts[False]
        return self._spaced[name]
