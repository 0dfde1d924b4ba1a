"""Telephone numbers in running text, in international, US, UK or German notation.

Every pattern requires a grouping, or a preceding word such as "tel", that other numbers lack:
dates, ISBNs, versions and long ids do not match.
"""

import re
from collections.abc import Iterator

from trainer.corpus.rules.plain_form import CharacterSpan

LONGEST = 15
"""Digits of the longest international number. Source: ITU-T E.164."""
SHORTEST = 8
CONTEXT_CHARACTERS = 30

_LENGTHS = {"1": (11, 11), "7": (11, 11), "33": (11, 11), "44": (11, 12), "49": (9, 14)}
"""Fewest and most digits, country code included, of countries with numbers of similar length."""

_COUNTRY = re.compile(
    "1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|(?:2[1-69]|3[578]|42|50|59|6[789]|8[0578]|9[679])[0-9]"
)

_INTERNATIONAL = re.compile(r"(?<![\w)\].+])\+[1-9][0-9 ().\-/\u2010-\u2013\u00a0]{6,24}[0-9]")
_GROUP = re.compile(r"[0-9]+")

_NATIONAL = re.compile(
    r"""(?<![\w+$#=]) (?<![\w)][./:-]) (?<![\w)]) (?:
      (?:\+?1[-. ])? \([2-9][0-9]{2}\)[ ]?[2-9][0-9]{2}[-. ][0-9]{4}    # US: (212) 555-1234
    | (?:1[-.])? [2-9][0-9]{2}(?P<us>[-.])[2-9][0-9]{2}(?P=us)[0-9]{4}  # US: 212-555-1234
    | \(?020\)?[ ][0-9]{4}[ ][0-9]{4}                                   # UK: London
    | \(?01(?:1[0-9]|[0-9]1)\)?[ ][0-9]{3}[ ][0-9]{4}                   # UK: large towns
    | \(?01[0-9]{3}\)?[ ][0-9]{6}                                       # UK: elsewhere
    | 07[0-9]{3}[ ](?:[0-9]{6}|[0-9]{3}[ ][0-9]{3})                     # UK: mobile
    | 0(?:800|808|3[0-9]{2})[ ][0-9]{3}[ ][0-9]{4}                      # UK: free or one rate
    | \(0[1-9][0-9]{1,4}\)[ ]?[0-9]{4,8}(?:-[0-9]{1,4})?                # Germany: (0221) 123456
    | 0[1-9][0-9]{1,4}[ ]?/[ ]?[0-9]{4,8}(?:-[0-9]{1,4})?               # Germany: 030/1234567
    | 01[5-7][0-9]{1,2}[ -/][0-9]{7,8}                                  # Germany: mobile
    ) (?![\w]|[-.,/:][0-9])""",
    re.VERBOSE | re.ASCII,
)
# After a word for a telephone, but not our own "[phone]", numbers of any grouping match.
_INTRODUCED = re.compile(
    r"""(?<![\w\[]) (?:
      (?:tele)?phone(?:\ (?:no\.?|number))? | tel(?:efon)?\.? | (?:tele)?fax | mobile(?:\ number)?
    | mobil | handy | cell(?:phone)? | whatsapp | hotline | helpline
    | (?:call|ring|text|dial)(?:\ (?:us|me|him|her|them))?\ (?:at|on)
    ) \s{0,2} (?:is\s)? [:=]? \s{0,2} \Z""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
# A number behind a bare "call" may count calls: only one with a prefix for long distance matches.
_DIALLED = re.compile(
    r"(?<![\w\[])(?:call|ring|text|dial)(?: (?:us|me|him|her|them))?\s{1,2}\Z", re.IGNORECASE
)
_RUN = re.compile(r"[0-9][0-9 ()./-]{5,}[0-9]")
_AFTER = re.compile(r"\w|[,.-][0-9]")
_DATE = re.compile(r"(?:19|20)[0-9]{2}[-./ ][0-9]{1,2}[-./ ][0-9]{1,2}(?![0-9])")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")


def phone_numbers(text: str) -> Iterator[CharacterSpan]:
    """The spans of telephone numbers in a text; they may overlap or repeat."""
    if "+" in text:
        for match in _INTERNATIONAL.finditer(text):
            end = _international_end(match.group())
            if end:
                yield match.start(), match.start() + end
    for run in _RUN.finditer(text):
        start = run.start()
        while start and text[start - 1] in "+(":
            start -= 1
        # Two characters more, for the pattern's negative lookahead.
        for match in _NATIONAL.finditer(text, start, run.end() + 2):
            yield match.span()
        if _is_introduced_number(text, start, run):
            yield start, run.end()


def _is_introduced_number(text: str, start: int, run: re.Match[str]) -> bool:
    digits = sum(map(str.isdigit, run.group()))
    if (
        not 7 <= digits <= LONGEST
        or _DATE.match(run.group())
        or _DECIMAL.fullmatch(run.group())
        or _AFTER.match(text, run.end())
    ):
        return False
    before = text[max(0, start - CONTEXT_CHARACTERS) : start]
    if run.group().startswith("0") and _DIALLED.search(before):
        return True
    return _INTRODUCED.search(before) is not None


def _international_end(run: str) -> int:
    """The length of the telephone number that `run`, which begins with +, starts with; 0: none."""
    groups = list(_GROUP.finditer(run))
    digits = "".join(group.group() for group in groups)
    country = _COUNTRY.match(digits)
    if country is None or _DECIMAL.fullmatch(run[1:]):
        return 0
    shortest, longest = _LENGTHS.get(country.group(), (SHORTEST, LONGEST))
    total, single, end = 0, 0, 0
    for group in groups:
        total += len(group.group())
        if total > longest:
            break
        # A row of signed small numbers is no telephone number.
        single += len(group.group()) == 1
        if total >= shortest and single <= 2:
            end = group.end()
    return end
