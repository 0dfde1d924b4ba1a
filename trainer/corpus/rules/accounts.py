"""Bank account numbers (IBAN) in running text, in groups as they are printed, or in one."""

import re
from collections.abc import Iterator

from trainer.corpus.rules.plain_form import CharacterSpan

LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22},
    **{"BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27},
    **{"DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27},
    **{"GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22},
    **{"IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32},
    **{"LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19},
    **{"MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24},
    **{"PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31},
    **{"SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23},
    **{"TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30},
}
"""Characters of a number by its country. Source: SWIFT's IBAN registry, release 99."""
_START = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?= {0,3}[A-Z0-9\u2013-])")
_NEXT = re.compile(r"(?: {1,3}|[\u2013-])?([A-Z0-9])")


def account_numbers(text: str) -> Iterator[CharacterSpan]:
    """The spans of international bank account numbers with a right checksum."""
    for start in _START.finditer(text):
        length = LENGTHS.get(start.group()[:2])
        if length is None:
            continue
        number, end = start.group(), start.end()
        while len(number) < length and (following := _NEXT.match(text, end)):
            number, end = number + following[1], following.end()
        behind = text[end : end + 1]
        whole = len(number) == length and not (behind.isascii() and behind.isalnum())
        if whole and _passes_checksum(number):
            yield start.start(), end


def _passes_checksum(number: str) -> bool:
    """Source: ISO 13616-1, with ISO 7064's MOD 97-10."""
    moved = number[4:] + number[:4]
    return int("".join(str(int(one, 36)) for one in moved)) % 97 == 1
