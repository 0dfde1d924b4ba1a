"""Payment card numbers in running text, in the groups in which they are printed, or in one."""

import re
from collections.abc import Iterator

from trainer.corpus.rules.plain_form import CharacterSpan

_CARD = re.compile(
    r"(?<![\w.\uff0e+/-])(?:[2-6]\d{12,18}"
    r"|[2-6]\d{3}(?P<between> {0,3}- {0,3}|[ .])\d{3,6}(?:(?P=between)\d{1,6}){1,4})"
    r"(?![\w]|[-.]\d)",
    re.ASCII,
)
_CARD_GROUPS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 3, 3, 3), (4, 4, 4, 1)}
FIRST_GROUP = 4
_ISSUERS = re.compile(
    r"""4(?:\d{12}|\d{15}|\d{18})                                      # Visa
    | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12} # Mastercard
    | 3[47]\d{13}                                                      # American Express
    | (?:6011|64[4-9]\d|65\d\d)\d{12}(?:\d{3})?                        # Discover
    | (?:30[0-5]\d|3[689]\d\d)\d{10}                                   # Diners Club
    | 35(?:2[89]|[3-8]\d)\d{12}(?:\d{3})?                              # JCB
    | 62\d{14}(?:\d{3})?                                               # UnionPay
    | (?:5018|5020|5038|5893|6304|6759|676[1-3])\d{9,15}               # Maestro""",
    re.VERBOSE | re.ASCII,
)


def card_numbers(text: str) -> Iterator[CharacterSpan]:
    """The spans of payment card numbers: of a known issuer, with a right checksum."""
    at = 0
    while match := _CARD.search(text, at):
        length = _card_length(match.group(), match["between"])
        if length:
            yield match.start(), match.start() + length
        # A year, or another number, may stand before the card's.
        whole = match["between"] is None
        at = match.end() if whole else match.start() + (length or FIRST_GROUP)


def _card_length(written: str, between: str | None) -> int:
    """The length of the card number with which groups of digits begin; 0: with none."""
    groups = written.split(between) if between else [written]
    for count in range(len(groups), 0, -1):
        digits = "".join(groups[:count])
        grouped = not between or tuple(map(len, groups[:count])) in _CARD_GROUPS
        if grouped and _ISSUERS.fullmatch(digits) and _passes_luhn(digits):
            return len((between or "").join(groups[:count]))
    return 0


def _passes_luhn(digits: str) -> bool:
    """The checksum of payment cards. Source: ISO/IEC 7812-1, annex B."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) << index % 2
        total += value - 9 if value > 9 else value
    return total % 10 == 0
