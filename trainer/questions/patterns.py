"""Verifier `regex`: a pattern matches the text, whole or, with `match: search`, a part of it.

Patterns are those of the `regex` package, which can be given a time: one that backtracks for longer
than that on some text does not match it, and training goes on.
"""

from functools import lru_cache

import regex

from trainer.errors import DataError
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict

SECONDS = 1.0
"""What a match may take; sound patterns take microseconds."""


@lru_cache(maxsize=4096)
def compiled(
    pattern: str, ignore_case: bool = False, dot_all: bool = False
) -> "regex.Pattern[str]":
    """The pattern; `dot_all`: whether a dot is a line's end too. Raises regex.error."""
    flags = (regex.IGNORECASE if ignore_case else 0) | (regex.DOTALL if dot_all else 0)
    return regex.compile(pattern, flags)


def verify_regex(question: Question, text: str) -> Verdict:
    """Whether the pattern matches the text without the white space around it."""
    options = question.options
    pattern = compiled(options["pattern"], bool(options.get("ignore_case", False)))
    matches = pattern.search if options.get("match") == "search" else pattern.fullmatch
    try:
        found = matches(text.strip(), timeout=SECONDS)
    except TimeoutError:
        return Verdict("wrong", f"the pattern ran for more than {SECONDS:g} s")
    shown = options["pattern"]
    return Verdict("right", f"matches {shown}") if found else Verdict("wrong", f"not {shown}")


def check_regex(question: Question) -> None:
    """Raise DataError where there is no pattern, or it is none."""
    pattern, match = question.options.get("pattern"), question.options.get("match", "full")
    if not isinstance(pattern, str):
        raise DataError(
            f'{question.named}: verifier regex needs "pattern", a string: give it, or set another'
            " verifier"
        )
    if match not in ("full", "search"):
        raise DataError(f'{question.named}: "match" {match!r} is neither full nor search')
    try:
        compiled(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise DataError(f"{question.named}: {pattern!r} is no pattern: {error}") from None
