"""Marks that tell answers of the same words apart: -5 and 5, C++ and C, 2.5 and 2 5."""

import re

from trainer.evaluate.judging.plain_words import unaccented

_RAISED = re.compile("(?<=\\d)[\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_SIGN = re.compile(
    r"(?P<minus>(?<![\w.)\]])[-\u2010-\u2013\u2212](?=\.?\d))"
    r"|(?:(?<=\b\w)|(?<=\b\w\w))(?P<letters>[+#]+)(?!\w)"
)
_IN_A_NUMBER = re.compile(
    r"(?<=\d)[.:/^\u2044](?=\d)|(?<!\w)\.(?=\d)|(?<=\d),(?=\d)(?!\d{3}(?!\d))"
    r"|(?<=\d)\s?[%\u2030$\u20ac\u00a3\u00a5]|[$\u20ac\u00a3\u00a5](?=\s?\d)"
)
_NAMES = {"+": "plus", "#": "sharp"}


def with_powers(text: str) -> str:
    """The text with what is raised behind a digit on its line: `unaccented` makes 10\u00b2 102."""
    return _RAISED.sub(lambda found: f"^{unaccented(found.group())}", text)


def signed(text: str) -> str:
    """The text with its signs as letters of their words, "minus5" and "Cplusplus".

    "Au-79", "A - Paris" and "20 + 3" have none.
    """
    return _SIGN.sub(_in_letters, text)


def lost_mark(text: str) -> str | None:
    """The first mark by which a text is more than its words; None where it has none."""
    plain = unaccented(with_powers(text))
    found = _SIGN.search(plain) or _IN_A_NUMBER.search(plain)
    return found and found.group().strip()


def _in_letters(found: re.Match[str]) -> str:
    return "minus" if found["minus"] else "".join(map(_NAMES.__getitem__, found["letters"]))
