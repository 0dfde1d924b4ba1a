"""Personal data: e-mail and public IP addresses, numbers of telephones, cards and accounts."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from trainer.corpus.rules.accounts import account_numbers
from trainer.corpus.rules.cards import card_numbers
from trainer.corpus.rules.phones import phone_numbers
from trainer.corpus.rules.plain_form import WIDE_STOPS, CharacterSpan, plain_forms, plain_words
from trainer.corpus.rules.rule import Finding, Judgement, RuleDescription, dropped
from trainer.corpus.rules.vocabulary import ends_with_listed, listed_words
from trainer.recipe.curation import PersonalRule

# Letters of scripts that put spaces between words: in Chinese or Japanese text an address may
# stand between two characters, and must not swallow them.
_LETTERS = "A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_EMAIL = re.compile(
    rf"(?<![{_LETTERS}0-9.+%_-])(?P<name>[{_LETTERS}0-9_](?:[{_LETTERS}0-9.+%_'-]{{0,62}}"
    rf"[{_LETTERS}0-9+_-])?)@(?:[{_LETTERS}0-9](?:[{_LETTERS}0-9-]{{0,61}}[{_LETTERS}0-9])?\.)"
    rf"{{1,8}}(?P<top>[{_LETTERS}]{{2,24}}|xn--[a-z0-9-]{{2,59}})(?![{_LETTERS}0-9(_-]|\.?\[)"
)
# What follows a dot in file names (icon@2x.png) and after the matrix product (a@b.shape).
_NO_DOMAIN = re.compile(
    "bmp|conj|css|csv|dot|dtype|flatten|gif|gz|html|ico|imag|inv|jpeg|jpg|js|json|log|max|mean|min"
    "|mp|png|real|reshape|shape|size|sort|std|sum|svg|tar|tgz|transpose|txt|values|view|webp|whl"
    "|xml|ya?ml",
    re.IGNORECASE,
)
_SERVICES = frozenset(("git", "hg", "svn"))
"""User names of code hosts, which are no e-mail addresses: git@github.com:owner/name.git."""
_MESSAGE_ID = re.compile(r"[0-9]{8,}[0-9.]*\.[0-9.]{8,}")
_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/@]{0,100}\Z")

_IPV4 = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
    r"(?!\w|\.\w|[-+][a-z])",
    re.ASCII,
)
_DOTTED = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]")
_VERSION_BEFORE = re.compile(
    r"(?:(?<![a-z])(?:v|ver|version|versions|release|releases|revision|rev|build|firmware|driver"
    r"|since|section|sections|sec|chapter|clause|paragraph|figure|table|appendix|rule|item|oid"
    r"|ecma)\.?\s*[:=]?\s*[\"'(]?|\u00a7\s*|[a-z]/|[<>]\s*|[=<>~!]=\s*)\Z",
    re.IGNORECASE,
)
_NETWORK_NEAR = re.compile(
    r"(?<![\w\[])(?:ip|ipv4|address|addresses|addr|host|hosts|server|dns|ping|subnet|gateway|client"
    r"|proxy|router|firewall|login|logged|connect|connected|connection|nameserver|resolver|remote"
    r"|peer|port|traceroute|whois|https?|ssh|from)(?!\w)",
    re.IGNORECASE | re.ASCII,
)
_TAG_BEFORE = re.compile(r"<[A-Za-z][^<>]*>\Z")
_HEADING_BEHIND = re.compile(r"\.[^\S\n]+[^\W\d]")
_SECTION_BEHIND = re.compile(r"\s?[\uc808\uc7a5\u8282\u7bc0\u7ae0\u9805\u6761]")
"""Words for a section in Korean, Chinese and Japanese, which stand behind its number."""
_NETWORK_CHARACTERS = 40
_VERSION_LIKE = 32
"""Four dotted numbers below this may be a version or section: an IP address then needs a word of
networking near it."""

# Global unicast is 2000::/3, so slices such as 1::2, and times, are not even looked at.
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![\w:])", re.ASCII)


@dataclass(frozen=True)
class Personal:
    """Redacts personal data, or drops the documents that contain it.

    Redacted data become `[email]`, `[iban]`, `[ip]`, `[phone]` or `[card]`: ordinary text that
    every tokenizer can encode and no pattern matches. A finding has the number of data of one kind,
    never the data.
    """

    section: PersonalRule
    name: str = "personal"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text."""
        section = self.section
        treatments: dict[str, str] = {kind: getattr(section, kind) for kind in KINDS}
        spans = personal_data(text)
        if section.drop_above is not None and len(spans) > section.drop_above:
            return dropped("personal data", len(spans), section.drop_above)
        forbidden = Counter(kind for kind, _ in spans if treatments[kind] == "drop")
        if forbidden:
            return Judgement(None, tuple(Finding(*found, 0) for found in forbidden.items()))
        counts: Counter[str] = Counter()
        # Text next to a datum may match once a placeholder separates the two.
        while redacted := [found for found in spans if treatments[found[0]] == "redact"]:
            counts.update(kind for kind, _ in redacted)
            text = _replaced(text, redacted)
            spans = personal_data(text)
        return Judgement(text, tuple(Finding(*found) for found in counts.items()))


def personal_data(text: str) -> list[tuple[str, CharacterSpan]]:
    """(kind, (start, end)) of all personal data, by kind in the order of KINDS; none overlap.

    It is looked for in the text as it stands and in its plain forms. Where they differ, the longer
    datum counts: in the text alone a number may end at its first no-break space.
    """
    found = _found_in(text)
    further: list[tuple[str, CharacterSpan]] = []
    for plain in plain_forms(text):
        further += [(kind, plain.original(span)) for kind, span in _found_in(plain.text)]
    if not further:
        return found
    # A full stop of Chinese behind an address ends the sentence, and begins no further domain.
    ended = {start for _, (start, end) in found if text[end : end + 1] in {*WIDE_STOPS}}
    further = [entry for entry in further if entry[1][0] not in ended]
    return _longest(found + further, len(text))


def _found_in(text: str) -> list[tuple[str, CharacterSpan]]:
    found: list[tuple[str, CharacterSpan]] = []
    taken = bytearray(len(text))
    for kind, find in KINDS.items():
        for start, end in sorted(find(text)):
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                found.append((kind, (start, end)))
    return found


def _longest(
    found: list[tuple[str, CharacterSpan]], characters: int
) -> list[tuple[str, CharacterSpan]]:
    """Those that no longer one overlaps, by kind and start; of equal ones the first kind."""
    order = list(KINDS)
    taken = bytearray(characters)
    chosen = []
    for kind, (start, end) in sorted(
        found, key=lambda entry: (entry[1][0] - entry[1][1], order.index(entry[0]))
    ):
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            chosen.append((kind, (start, end)))
    return sorted(chosen, key=lambda entry: (order.index(entry[0]), entry[1]))


def _replaced(text: str, found: list[tuple[str, CharacterSpan]]) -> str:
    parts, last = [], 0
    for kind, (start, end) in sorted(found, key=lambda entry: entry[1]):
        parts += [text[last:start], f"[{kind}]"]
        last = end
    return "".join([*parts, text[last:]])


def _emails(text: str) -> Iterator[CharacterSpan]:
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        if match["name"].lower() in _SERVICES or _NO_DOMAIN.fullmatch(match["top"]):
            continue
        if _MESSAGE_ID.fullmatch(match["name"]):
            continue
        # user@host in a URL names an account; with a further @ behind it, it is a password that
        # is an address (ftp://anonymous:me@home.org@host/).
        before = text[max(0, match.start() - 120) : match.start()]
        if _IN_URL.search(before) and text[match.end() : match.end() + 1] != "@":
            continue
        yield match.span()


def _ip_addresses(text: str) -> Iterator[CharacterSpan]:
    if _DOTTED.search(text):
        for match in _IPV4.finditer(text):
            address = ipaddress.IPv4Address(match.group())
            public = address.is_global and not address.is_multicast
            if public and _is_address(text, match.span(), address.packed):
                yield match.span()
    if ":" in text:
        for match in _IPV6.finditer(text):
            groups = [group for group in match.group().split(":") if group]
            try:
                public = ipaddress.IPv6Address(match.group()).is_global
            except ValueError:
                continue
            # x[2000::3] is a slice.
            if public and (len(groups) > 2 or re.search("[a-fA-F]", match.group())):
                yield match.span()


def _is_address(text: str, span: CharacterSpan, octets: bytes) -> bool:
    """Whether four dotted numbers are an IP address, and not a version or a section."""
    start, end = span
    before = text[max(0, start - _NETWORK_CHARACTERS) : start]
    tag = _TAG_BEFORE.search(before)
    if (_VERSION_BEFORE.search(before) and not tag) or ends_with_listed(
        plain_words(before), "version"
    ):
        return False
    if max(octets) >= _VERSION_LIKE:
        return True
    if _SECTION_BEHIND.match(text, end):
        return False
    if not before.rpartition("\n")[2].strip() and _HEADING_BEHIND.match(text, end):
        return False
    around = before + text[end : end + _NETWORK_CHARACTERS]
    return (_NETWORK_NEAR.search(around) or _near_network().search(around)) is not None


@cache
def _near_network() -> re.Pattern[str]:
    return re.compile(listed_words("network"), re.IGNORECASE)


KINDS: dict[str, Callable[[str], Iterator[CharacterSpan]]] = {
    "email": _emails,
    "iban": account_numbers,
    "card": card_numbers,
    "ip": _ip_addresses,
    "phone": phone_numbers,
}
"""By precedence: where two kinds match the same characters, the earlier one counts."""


DESCRIPTION = RuleDescription(
    rules=lambda section: [Personal(section)],
    behind_duplicates=True,
    summary="e-mail, public IP, phone, payment card (Luhn), IBAN: redact, drop or keep",
    not_applied="personal data was not looked for",
    limits="Personal data is found by its pattern: names, postal addresses and what is written"
    " out in words are not found.",
)
