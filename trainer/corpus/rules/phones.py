"""Telephone numbers in running text, in international notation or that of a country.

Every pattern requires a grouping, or a preceding word such as "tel", that other numbers lack:
dates, ISBNs, versions and long ids do not match. Which countries' groupings are known: see
_NATIONAL; in which languages the words: words/telephone.txt.
"""

import re
from collections.abc import Iterator

from trainer.corpus.rules.plain_form import CharacterSpan, plain_words
from trainer.corpus.rules.scripts import unspaced_letters
from trainer.corpus.rules.vocabulary import ends_with_listed

LONGEST = 15
"""Digits of the longest international number. Source: ITU-T E.164."""
SHORTEST, LONGEST_UNBROKEN = 8, 13
"""The second: without any grouping; there are integers that are longer."""
CONTEXT_CHARACTERS = 30
_BYTES = re.compile(r"[0-9A-Fa-f]{2}[ .-][0-9A-Fa-f]{2}[ .-]\Z")
_MORE = re.compile(r"[0-9][ .-]?\Z")
LARGEST_DRAWN = 50
"""Pairs in ascending order up to it are the numbers of a lottery, or those of a list."""

_LENGTHS = {
    **dict.fromkeys(("1", "7", "31", "33", "34", "41", "48", "61"), (11, 11)),
    **dict.fromkeys(("45", "47"), (10, 10)),
    **dict.fromkeys(("30", "90", "91", "351", "380", "420"), (12, 12)),
    **{"32": (10, 11), "36": (10, 11), "44": (11, 12), "46": (9, 12), "49": (9, 14)},
    **{"55": (12, 13), "81": (11, 12), "82": (10, 12), "86": (11, 13), "972": (11, 12)},
}
"""Fewest and most digits, country code included, of countries with numbers of similar length.
Source: the countries' numbering plans, as ITU-T Operational Bulletins publish them."""

_COUNTRY = re.compile(
    "1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|(?:2[1-69]|3[578]|42|50|59|6[789]|8[0578]|9[679])[0-9]"
)

_INTERNATIONAL = re.compile(
    r"(?<![\w)\].+/-])(?:\+|00 ?(?=[2-9]))[1-9][0-9 ().\-/\u2010-\u2013\u00a0]{6,24}[0-9]",
    re.ASCII,
)
_FOURS = re.compile(r"00[0-9]{2}(?:\D[0-9]{4})+(?:\D[0-9]{1,3})?")
"""Looks like 00 and a country, and is a number in groups of four."""
_GROUP = re.compile(r"[0-9]+")
_TRUNK = re.compile(r"\(0\)")
"""The digit that is dialled from within the country alone: +44 (0)20."""
_NORTH_AMERICAN = re.compile("1[2-9][0-9]{2}[2-9]")

_NATIONAL = re.compile(
    r"""(?<![\w+$#=]) (?<![\w)][./:-]) (?<![\w)]) (?:
      (?:\+?1[-. ])? \([2-9][0-9]{2}\)[ ]?[2-9][0-9]{2}[-. ][0-9]{4}    # US: (212) 555-1234
    | (?:1[-.])? [2-9][0-9]{2}(?P<us>[-.])[2-9][0-9]{2}(?P=us)[0-9]{4}  # US: 212-555-1234
    | (?:020|\(020\))[ ][0-9]{4}[ ][0-9]{4}                             # UK: London
    | (?:01(?:1[0-9]|[0-9]1)|\(01(?:1[0-9]|[0-9]1)\))[ ][0-9]{3}[ ][0-9]{4} # UK: large towns
    | (?:01[0-9]{3}|\(01[0-9]{3}\))[ ][0-9]{6}                          # UK: elsewhere
    | 07[0-9]{3}[ ](?:[0-9]{6}|[0-9]{3}[ ][0-9]{3})                     # UK: mobile
    | 0(?:800|808|3[0-9]{2})[ ][0-9]{3}[ ][0-9]{4}                      # UK: free or one rate
    | \(0[1-9][0-9]{1,4}\)[ ]?[0-9]{4,8}(?:-[0-9]{1,4})?                # Germany: (0221) 123456
    | 0[1-9][0-9]{1,4}[ ]?/[ ]?[0-9]{4,8}(?:-[0-9]{1,4})?               # Germany: 030/1234567
    | 01[5-7][0-9]{1,2}[ -/][0-9]{7,8}                                  # Germany: mobile
    | 0[1-9](?P<fr>[ .-])[0-9]{2}(?:(?P=fr)[0-9]{2}){3}(?!(?P=fr)[0-9]) # France
    | (?=0[1-9]-?(?:[0-9]-?){8,9}(?![0-9])) 0[0-9]{1,4}-[0-9]{2,4}-[0-9]{3,4}  # Japan, Korea
    | \(0[0-9]{1,3}\)[ ]?[0-9]{3,4}[- ][0-9]{4}                         # Japan, Australia
    | 0[1-9][0-9]{1,2}-[0-9]{7,8} | 1[3-9][0-9]-[0-9]{4}-[0-9]{4}       # China
    | 04[0-9]{2}[ ][0-9]{3}[ ][0-9]{3}                                  # Australia: mobile
    | 8[ ]?\([0-9]{3,5}\)[ ]?[0-9]{1,3}-[0-9]{2}-[0-9]{2}               # Russia
    | 8[- ][0-9]{3}[- ][0-9]{3}-[0-9]{2}-[0-9]{2}                       # Russia
    | \([1-9]{2}\)[ ]?9?[1-9][0-9]{3}-[0-9]{4}                          # Brazil
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
NUMBER_WORDS: tuple[str, ...] = (
    " nr",
    " no",
    " num",
    " n",
    " №",
    " номер",
    " número",
    " numéro",
    " numero",
)
NUMBER_WORDS += (" nummer", " nomor", "号码", "號碼", "番号", "번호")
VERBS: tuple[str, ...] = (" is", " est", " es", " ist", " é", " è", " jest", " je")
VERBS += ("は", "는", "은", "是", "为", "為")
"""What may stand between a word for a telephone and its number."""
# A number behind a bare "call" may count calls: only one with a prefix for long distance matches.
_DIALLED = re.compile(
    r"(?<![\w\[])(?:call|ring|text|dial)(?: (?:us|me|him|her|them))?\s{1,2}\Z", re.IGNORECASE
)
_RUN = re.compile(r"[0-9][0-9 ()./-]{5,}[0-9]")
_AFTER = re.compile(rf"(?![{unspaced_letters()}\uac00-\ud7a3])\w|[,.-][0-9]")
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}(?:[-./ ][0-9]{1,2}[-./ ][0-9]{1,2}|(?:0[1-9]|1[0-2])[0-3][0-9])(?![0-9])"
)
_HEXADECIMAL = re.compile("[A-Za-z0-9_]|[,.-][0-9]")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")


def phone_numbers(text: str) -> Iterator[CharacterSpan]:
    """The spans of telephone numbers in a text; they may overlap or repeat."""
    if "+" in text or "00" in text:
        for match in _INTERNATIONAL.finditer(text):
            end = _international_end(match.group())
            if end and not (match.group()[0] == "0" and _is_part(text, match)):
                yield match.start(), match.start() + end
    for run in _RUN.finditer(text):
        start = run.start()
        while start and text[start - 1] in "+(":
            start -= 1
        # Two characters more, for the pattern's negative lookahead.
        for match in _NATIONAL.finditer(text, start, run.end() + 2):
            if not _is_other_number(text, match):
                yield match.span()
        if _is_introduced_number(text, start, run):
            yield start, run.end()


def _is_other_number(text: str, match: re.Match[str]) -> bool:
    """Whether a number in the notation of a country is drawn or ordered, and none to dial."""
    before = _before(text, match)
    if match["fr"]:
        pairs = list(map(int, match.group().split(match["fr"])))
        if (pairs == sorted(pairs) and pairs[-1] <= LARGEST_DRAWN) or _BYTES.search(before):
            return True
    # "Case no." is listed whole, and "order" with any word for a number behind it.
    return any(ends_with_listed(one, "reference") for one in (before, _without_number_word(before)))


def _is_part(text: str, match: re.Match[str]) -> bool:
    """Whether further digits or letters stand before or behind a number that begins with 00."""
    return (_HEXADECIMAL.match(text, match.end()) or _MORE.search(_before(text, match))) is not None


def _before(text: str, match: re.Match[str]) -> str:
    return plain_words(text[max(0, match.start() - CONTEXT_CHARACTERS) : match.start()])


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
    if _INTRODUCED.search(before) is not None:
        return True
    return ends_with_listed(_without_number_word(before), "telephone")


def _without_number_word(before: str) -> str:
    """What stands before a number, without a verb or "No." behind the word that introduces it."""
    cut = before.rstrip(" \u00a0.:\uff1a").lower()
    for endings in (VERBS, NUMBER_WORDS):
        if cut.endswith(endings):
            longest = max((one for one in endings if cut.endswith(one)), key=len)
            cut = cut[: -len(longest)]
    return before[: len(cut)]


def _international_end(run: str) -> int:
    """The length of the telephone number that `run`, behind + or 00, starts with; 0: none."""
    trunk = _TRUNK.search(run)
    inside = trunk.span() if trunk else (-1, -1)
    groups = [one for one in _GROUP.finditer(run) if not inside[0] < one.start() < inside[1]]
    digits = "".join(group.group() for group in groups).removeprefix("00")
    country = _COUNTRY.match(digits)
    if country is None or _DECIMAL.fullmatch(run[1:]):
        return 0
    if country.group() == "1" and not _NORTH_AMERICAN.match(digits):
        return 0
    if len(groups) == 1 and len(digits) > LONGEST_UNBROKEN:
        return 0
    shortest, longest = _LENGTHS.get(country.group(), (SHORTEST, LONGEST))
    dialled = run.startswith("00")
    total, single, end = -2 * dialled, 0, 0
    for group in groups:
        total += len(group.group())
        if total > longest:
            break
        # A row of signed small numbers is no telephone number.
        single += len(group.group()) == 1
        if total >= shortest and single <= 2:
            end = group.end()
    # 00 begins other numbers, too: this one must have groups, and be all there is.
    if dialled and (end < len(run) or len(groups) < 3 or _FOURS.fullmatch(run)):
        return 0
    return end
