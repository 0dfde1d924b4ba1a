"""Whether a text gives the right symbol, formula or code, among words that look like one.

"In", "He", "No", "I" are symbols of elements and "it", "is", "no" codes of languages: such a word
is a sign only where one is said to follow, in quotes or brackets, or alone. Where the text has a
sign that is no word, too, a code is one only in quotes or behind "is" and a colon; a symbol or
formula that begins the text only there or where it is right ("No. It is Au" begins with no symbol).
"""

import re

from trainer.evaluate.judging.expected import ExpectedAnswer
from trainer.evaluate.judging.phrases import phrase
from trainer.evaluate.judging.plain_words import unaccented

_MARKUP = re.compile(r"\\(?:text|mathrm|ce)\b|[_${}\\^*]")
_SIGN = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\([A-Za-z0-9]+\)\d*[A-Za-z0-9]*)*")
_ANNOUNCED = re.compile(
    r"(?:\b(?:it's|that's|is|are|was|be|symbol|code|formula|as|by|namely|called|uses?|write|written"
    r"|answer|either|just|simply|not|probably|possibly|perhaps|maybe|guess)|[:=\"'`(\[])\s*$"
)
_JOINED = re.compile(r"^[\s,\"'`)\]]*(?:or|and|/)?[\s,\"'`(\[]*$")
_CLOSED = re.compile(
    # A quotation mark behind a space opens: in 'the code is "de"', "is" is no code.
    r"^(?:[\"'`)\]]|\s*(?:[.,;:!?)\](-]|$|for\b|and\b|or\b|because\b|which\b|from\b|in\b|\n))"
)
_SURELY = re.compile(
    r"(?:\b(?:is|it's|that's|was|be|probably|possibly|perhaps|maybe"
    r"|(?:has|have|uses?|with|by|under|gets) the (?:[\w-]+ ){0,3}?code)|[:=])\s*$|[\"'`(\[]$"
)
"""What stands before a word that is a sign beyond doubt: "it is He", "it has the code it"."""
_IS_THE_SIGN = re.compile(
    r"\s+(?:is|as|stands for|was)\s+(?:the|its|a)?\s*(?:\w+\s+){0,2}?(?:symbol|code|formula|abbrev)"
)
_DENIED = re.compile(r"\b(?:not|isn't|isnt|never|rather than|instead of|unlike)\s+[\"'`(]?$")


def sign_is_right(text: str, expected: ExpectedAnswer) -> bool:
    """Whether the first sign that a text claims is right, and none is joined to it that is not.

    Case counts where it tells signs apart ("Co" is not "CO"); a whole answer in another case is
    right where no rival is written so. Codes that are in lower case alone are right in any.
    """
    plain = _MARKUP.sub("", unaccented(text)).strip()
    lower = all(name == name.lower() for name in expected.right)
    right = {name.lower() if lower else name for name in expected.right}
    rivals = {name.lower() if lower else name for name in expected.rivals}
    whole = plain.strip(" .\n\"'`!")
    if lower:
        whole = whole.lower()
    if whole in right:
        return True
    if whole.lower() in {name.lower() for name in right} and whole not in rivals:
        return True
    verdict: bool | None = None
    end = 0
    for found in _signs(plain, right, rivals, lower):
        sign = found.group().lower() if lower else found.group()
        if verdict is not None and not _JOINED.match(plain[end : found.start()]):
            break
        verdict = sign in right and verdict is not False
        end = found.end()
    return bool(verdict)


def _signs(plain: str, right: set[str], rivals: set[str], lower: bool) -> list[re.Match[str]]:
    """Where a text has one of the signs, those that it denies and words of its own left out."""
    sure, words = [], []
    for found in _SIGN.finditer(plain):
        sign = found.group().lower() if lower else found.group()
        before, after = plain[: found.start()], plain[found.end() :]
        if sign not in right | rivals or _DENIED.search(before.lower()):
            continue
        if not phrase("mentions", "sign_or_word").fullmatch(sign.lower()):
            sure.append(found)
        elif _is_sign(before, after):
            words.append(found)
            # "It", "As" or "So" within a sentence are in lower case: a symbol is seen by its case.
            of_its_case = not lower and (sign in right or before.strip())
            if of_its_case or _SURELY.search(before.lower()):
                sure.append(found)
    return sure or words


def _is_sign(before: str, after: str) -> bool:
    """Whether a word that may be a sign stands where a sign does."""
    if not before.strip():
        closed = re.match(r"^\s*(?:[.,;:!?\"'`)\](-](?!\w)|\(|$)", after)
        return bool(closed or _IS_THE_SIGN.match(after))
    return bool(_ANNOUNCED.search(before.lower()) and _CLOSED.match(after.lower()))
