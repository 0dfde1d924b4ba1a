r"""Verifier `number`: the number that a text claims has the key's value.

Claimed is what stands in the last `\boxed{}`, behind the last `####`, or directly behind the first
"answer is", "answer:" or "is:"; elsewhere the text's last number. Read are signs, thousands (1,234;
1 234; 1'234), decimals (3.14; 3,14), fractions (3/4, 1 1/2, ½, \frac{3}{4}), powers (1.5e-3,
6 x 10^23, 2^10), percent, numbers in words and millions. Values are compared exactly, or within
`tolerance`: a number, or a share of the key as "1%". Units are not looked at: "50%" is right
for 50, and 50 for "50%"; so are 0.5 for "50%" and "50%" for 0.5.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from trainer.errors import DataError
from trainer.evaluate.judging.plain_words import unaccented, with_digits
from trainer.questions.marks import with_powers
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict

_THIN = re.compile("[\u00a0\u2007\u2009\u202f]")
_VULGAR = re.compile(r"(?<=\d)\s*(?=[\u00bc-\u00be\u2150-\u215e])")
_LATEX = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_STARS = re.compile(r"(?<=\d)\*\*(?=[-+]?\d)")
_MARKUP = re.compile(r"(?<=-)\$|\\[,;! ]|[*_`]|\\(?:text|mathrm|left|right)\b|\{,\}")
_WHOLE = r"\d{1,3}(?:[, '](?=\d{3}(?!\d))\d{3})+|\d+"
_POWER = (
    r"(?:\s*(?:x|\u00d7|\\times|\u00b7|\\cdot)\s*10\s*\^?\s*[{(]?\s*(?P<power>[+-]?\d+)\s*[)}]?)"
)
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w)\].%^])(?:[-+](?=\S)|(?<![\w)\]%]\s)[-+]\s)|\bminus\s|\bnegative\s)?
    (?P<currency>[\u20ac\u00a3\u00a5]\s?)?
    (?<![\w.^])(?<!\^[-+{{(])(?<!\^[{{(][-+])(?:
        (?:(?P<mixed>\d+)\s+)?(?P<over>\d+)\s*[/\u2044]\s*(?P<under>\d+)(?![\d/\u2044])
        |(?P<whole>{_WHOLE})(?P<decimal>\.\d+|,(?!\d{{3}}(?!\d))\d+)?
        |(?P<bare>\.\d+)
    )(?!\d|\.\d)
    (?:[eE](?P<exponent>[+-]?\d+)|{_POWER}|\s*\^\s*[{{(]?(?P<raised>[+-]?\d+)[)}}]?)?
    (?P<percent>\s?%|\s?per\s?cent\b)?
    (?P<scale>\s(?:hundred|thousand|million|billion|trillion)s?\b)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_LONGEST = 400
"""Digits, and powers of ten, beyond which a number is none: nobody asks for it, Python reads no
more than some thousand digits, and a power would fill the memory."""
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_ANNOUNCED = re.compile(
    r"\banswer(?:\s+\w+){0,3}?\s*(?:is|=|:)\s*:?|\b(?:is|total|result)\s*:|\bresult\s+is\b",
    re.IGNORECASE,
)
_ONE = re.compile(r"(?<!\bno )(?<!\bnot )(?<!\bany )(?<!\bsome )(?<!\bevery )\bone\b")
_MULTIPLE = re.compile(r"\d(?:[kKMBT]|\s?(?:bn|mn|mio|mln|tn))\b")
_MORE = re.compile(
    r"(?<![a-z\d^{(+-])\d"
    r"|\b(?:hal(?:f|ves)|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth"
    r"|thousandth|hundred|thousand|million|billion|trillion|dozen|lakh|crore)s?)\b"
    r"|#\s*(?:[+\u00d7\u00f7^\u00b1]|pi\b)|(?:[+\u00d7\u00f7<>\u2264\u2265]|\b[a-z]-|\)\s*-)\s*#"
    r"|\\(?:sqrt|frac|pi|log|ln|sin|cos|tan)|[\u221a\u03c0\u221e]"
)
"""What is not read beside a key's number, # in its place, and would make it another. Digits behind
a letter are its unit's: "9.8 m/s^2"."""
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True)
class ReadNumber:
    """A number as it stands in a text: its value, and whether it is a percentage (50 of "50%")."""

    value: Fraction
    percent: bool

    def equals(self, key: "ReadNumber", tolerance: Fraction | str) -> bool:
        """Whether it has the key's value; `tolerance`: absolute, or a share of the key as "1%"."""
        values = [self.value] if self.percent == key.percent else [self.value, self.value / 100]
        wanted = key.value
        if key.percent and not self.percent:
            values[1] = self.value * 100
        return any(abs(value - wanted) <= _within(tolerance, wanted) for value in values)


def claimed_number(text: str) -> ReadNumber | None:
    """The number that a text claims; None where it has none."""
    plain = _prepared(text)
    if (part := _set_apart(plain)) is not None:
        return _last(part)
    for announced in _ANNOUNCED.finditer(plain):
        behind = re.match(r"[^\w\n.-]*", plain[announced.end() :])
        start = announced.end() + (behind.end() if behind else 0)
        if (found := _NUMBER.match(plain, start)) and (number := _read(found)) is not None:
            return number
    return _last(plain)


def verify_number(question: Question, text: str) -> Verdict:
    """Whether a text claims the value of one of the answers."""
    found = claimed_number(text)
    if found is None:
        return Verdict("wrong", "has no number")
    tolerance = _tolerance(question)
    shown = f"{_shown(found.value)}{'%' * found.percent}"
    for answer in question.answers:
        key = claimed_number(answer)
        if key is not None and found.equals(key, tolerance):
            return Verdict("right", f"claims {shown}")
    return Verdict("wrong", f"claims {shown}, not {question.answers[0]}")


def check_number(question: Question) -> None:
    """Raise DataError where an answer is not one number, or the tolerance is none."""
    for answer in question.answers:
        if claimed_number(answer) is None:
            raise DataError(
                f"{question.named}: the answer {answer!r} has no number: give one, or set another"
                " verifier than number"
            )
        if not _is_one_number(answer):
            raise DataError(
                f"{question.named}: the answer {answer!r} is no number that can be read whole:"
                " write it as one, in digits, or set verifier exact"
            )
    given = question.options.get("tolerance", 0)
    number = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 1e300
    if not number and not (isinstance(given, str) and _SHARE.fullmatch(given)):
        raise DataError(
            f'{question.named}: "tolerance" {given!r} is neither a number nor a share as "1%"'
        )


def _is_one_number(answer: str) -> bool:
    """Whether a key is a number with a unit or words at most: "5 apples", "x = 5", "#### 5"."""
    plain = _prepared(answer)
    part = _set_apart(plain) or plain
    found = [one for one in _NUMBER.finditer(part) if _read(one) is not None]
    if len(found) != 1 or _MULTIPLE.search(answer):
        return False
    before, after = part[: found[0].start()], part[found[0].end() :]
    return not _MORE.search(f"{before}#{after}".lower())


def _set_apart(plain: str) -> str | None:
    """What a text sets apart as its answer, boxed or behind `####`; None where it does not."""
    if boxed := _BOXED.findall(plain):
        return str(boxed[-1])
    return plain.rpartition("####")[2] if "####" in plain else None


def _tolerance(question: Question) -> Fraction | str:
    given = question.options.get("tolerance", 0)
    return given if isinstance(given, str) else Fraction(str(given))


def _within(tolerance: Fraction | str, wanted: Fraction) -> Fraction:
    if isinstance(tolerance, Fraction):
        return tolerance
    share = _SHARE.fullmatch(tolerance)
    assert share is not None, "the question was checked"
    return abs(wanted) * Fraction(share[1]) / 100


def _prepared(text: str) -> str:
    """The text with numbers in words as digits, without markup inside of numbers."""
    plain = _LATEX.sub(r" \1/\2", _THIN.sub(" ", with_powers(text)))
    # "½" decomposes to 1/2: a digit before it must not run into that.
    plain = unaccented(_VULGAR.sub(" ", plain)).replace("\u2044", "/")
    plain = _MARKUP.sub("", _STARS.sub("^", plain)).replace("$", " ")
    words = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", plain.lower())
    plain = with_digits(words) if re.search(r"[a-z]", words) else plain
    return plain if re.search(r"\d", plain) else _ONE.sub("1", plain)


def _last(plain: str) -> ReadNumber | None:
    numbers = [number for found in _NUMBER.finditer(plain) if (number := _read(found)) is not None]
    return numbers[-1] if numbers else None


def _read(found: re.Match[str]) -> ReadNumber | None:
    if sum(map(str.isdecimal, found.group())) > _LONGEST:
        return None
    raised = int(found["raised"] or 1)
    if abs(raised) * len(found.group()) > _LONGEST:
        return None
    if found["over"] is not None:
        if int(found["under"]) == 0:
            return None
        value = int(found["over"]) / Fraction(int(found["under"])) ** raised
        value += int(found["mixed"] or 0)
    else:
        whole = re.sub(r"\D", "", found["whole"] or "0")
        decimal = (found["decimal"] or found["bare"] or ".0")[1:]
        value = Fraction(f"{whole}.{decimal}")
        if raised < 0 and value == 0:
            return None
        value **= raised
    power = int(found["exponent"] or found["power"] or 0)
    if abs(power) > _LONGEST:
        return None
    value *= Fraction(10) ** power
    if found["scale"]:
        value *= _SCALES[found["scale"].strip().lower().removesuffix("s")]
    if found["sign"] and found["sign"].strip() != "+":
        value = -value
    return ReadNumber(value, found["percent"] is not None)


def _shown(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return f"{Decimal(value.numerator) / value.denominator:.6g}"  # a float ends at 1e308
