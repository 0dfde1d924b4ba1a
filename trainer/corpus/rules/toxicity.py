"""Slurs and abuse: listed whole words, judged by the words around them."""

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cache

from trainer.corpus.rules.rule import Finding, Judgement, RuleDescription, kept
from trainer.corpus.rules.vocabulary import further_words, listed, with_plurals
from trainer.recipe.curation import ToxicityRule

DISCUSSED_WITHIN = 10
"""Distance in words within which a word of discussion marks a slur as discussed, not used."""
HOSTILE_WITHIN = 3
"""Distance in words within which abuse makes an ambiguous word a slur."""
YOU_WITHIN, GROUP_WITHIN = 2, 4
"""Distances in words within which "you", or a group of people, is the target of a toxic word."""
LEAST_WORDS = 200
"""The least length in words for rates, so that one oath does not make a short text toxic."""

SLUR, AMBIGUOUS, TOXIC, THREAT = "slur", "ambiguous", "toxic", "threat"

_TOKEN = re.compile(r"[^\W_](?:[\w@$!*]*[^\W_])?")
# Quotations are short: the words in long ones count as the text's own.
_QUOTED = re.compile(r"[\"\u201c\u201e\u00ab][^\"\u201c\u201d\u00bb\n]{1,80}[\"\u201d\u201c\u00bb]")
_MARKS = frozenset("'`\u2018\u2019\u201a\u2039\u203a")
_SPACED = re.compile(r"(?<!\w)[^\W\d_](?:([ .*_-])[^\W\d_])(?:\1[^\W\d_]){2,12}(?!\w)")
_STRETCHED = re.compile(r"([a-z])\1\1+")
_DISGUISE = str.maketrans("134@05$!", "ieaaossi")

_YOU = frozenset(("you", "your", "yourself", "yourselves", "youre", "u", "ur", "ya"))
_NOT_NAMED = re.compile(r"the|an?|your|my|this|that|its?|his|her|their|our|at|in|on|by")
_THREAT_WORDS = ("kill", "kys", "die", "rape", "shoot", "gas", "lynch", "exterminate", "death")
_THREAT = re.compile(
    rf"""\b(?:kys | kill\ yoursel(?:f|ves) | (?:hope|wish)\ you(?:\ all|\ would)?\ die
    | (?:will|gonna|going\ to|'ll)\ (?:kill|rape|shoot|lynch|gas)\ (?:you|u|ya)
    | you(?:\ all)?\ (?:should|must|deserve\ to|need\ to)(?:\ all)?
      \ (?:die|be\ (?:shot|killed|raped|gassed|lynched))
    | (?:kill|rape|shoot|gas|lynch|exterminate|death\ to)(?:\ all)?
      (?:\ (?:of\ )?(?:the|these|those))?\ (?:{"|".join(listed("insulted"))})
    )\b""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Toxicity:
    """Drops documents that use (rather than discuss) slurs, or abuse somebody."""

    section: ToxicityRule
    name: str = "toxicity"

    def prepare(self) -> None:
        """Read the word lists. Raises RecipeError or DataError for a bad file of further words."""
        vocabulary(self.section.words)

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text."""
        lower = text.lower()
        known = vocabulary(self.section.words)
        tokens = _TOKEN.findall(lower)
        kinds = _kinds_of(set(tokens), known, _STRETCHED.search(lower) is not None)
        spaced = [match for match in _SPACED.finditer(lower) if _spelled(match) in known]
        if not kinds and not spaced:
            return kept(text)
        counts = _Reading(lower, tokens, kinds).count()
        for match in spaced:
            counts["slurs" if known[_spelled(match)] == SLUR else "toxic words"] += 1
        findings = self._findings(counts, len(tokens))
        return Judgement(None, findings) if findings else kept(text)

    def _findings(self, counts: Counter[str], words: int) -> tuple[Finding, ...]:
        section = self.section
        slurs, discussed = counts["slurs"], counts["discussed slurs"]
        rate = 1000 * counts["toxic words"] / max(words, LEAST_WORDS)
        measured: list[tuple[str, float, float]] = [
            ("slurs", slurs, section.slurs),
            ("discussed slurs", slurs + discussed, max(section.discussed_slurs, section.slurs)),
            ("toxic words a thousand", rate, section.toxic_words_a_thousand),
            ("hostile words", counts["hostile words"], section.hostile_words),
        ]
        return tuple(Finding(*finding) for finding in measured if finding[1] > finding[2])


class _Reading:
    """Counts the listed words of one text by their context.

    `lower`: the text in lower case; `tokens`: its words; `kinds`: the kind of each listed one.
    """

    def __init__(self, lower: str, tokens: list[str], kinds: dict[str, str]):
        self._lower, self._tokens, self._kinds = lower, tokens, kinds
        self._hits = [
            (index, match.span())
            for index, match in enumerate(_TOKEN.finditer(lower))
            if match.group() in kinds
        ]
        self._quotes = [match.span() for match in _QUOTED.finditer(lower)]
        self._quote_starts = [start for start, _ in self._quotes]

    def count(self) -> Counter[str]:
        """The numbers of slurs, discussed slurs, toxic words and hostile words, by these names."""
        counts: Counter[str] = Counter()
        for index, span in self._hits:
            kind = self._kinds[self._tokens[index]]
            discussed = self._is_discussed(index, span)
            if kind == SLUR or (kind == AMBIGUOUS and self._in_hostile_company(index)):
                counts["discussed slurs" if discussed else "slurs"] += 1
            elif kind == TOXIC:
                counts["toxic words"] += 1
                counts["hostile words"] += not discussed and self._is_aimed(index)
        if THREAT in self._kinds.values():
            counts["hostile words"] += sum(1 for _ in _THREAT.finditer(self._lower))
        return counts

    def _near(self, index: int, distance: int) -> list[str]:
        tokens = self._tokens
        return tokens[max(0, index - distance) : index] + tokens[index + 1 : index + 1 + distance]

    def _is_discussed(self, index: int, span: tuple[int, int]) -> bool:
        start, end = span
        lower = self._lower
        if lower[start - 1 : start] in _MARKS and lower[end : end + 1] in _MARKS:
            return True
        at = bisect_right(self._quote_starts, start) - 1
        if at >= 0 and end <= self._quotes[at][1]:
            return True
        return not _DISCUSSION.isdisjoint(self._near(index, DISCUSSED_WITHIN))

    def _in_hostile_company(self, index: int) -> bool:
        tokens = self._tokens
        before, after = tokens[max(0, index - 3) : index], tokens[index + 1 : index + 2]
        if any(
            self._kinds.get(word) in (SLUR, TOXIC) for word in self._near(index, HOSTILE_WITHIN)
        ):
            return True
        if not _HOSTILE.isdisjoint(before[-2:]):
            return True
        called = before[-1:] == ["you"] or before[-3:] in (["you", "are", "a"], ["you", "re", "a"])
        # "you retard the spark" does something; "you retard" is called something.
        return called and not any(map(_NOT_NAMED.fullmatch, after))

    def _is_aimed(self, index: int) -> bool:
        return not (
            _YOU.isdisjoint(self._near(index, YOU_WITHIN))
            and _INSULTED.isdisjoint(self._near(index, GROUP_WITHIN))
        )


_DISCUSSION = frozenset(listed("discussion"))
_HOSTILE = frozenset(listed("hostile"))
_INSULTED = frozenset(listed("insulted"))


@cache
def vocabulary(further: str | None) -> dict[str, str]:
    """The kind of each listed word, in lower case, with plurals; `further`: a file of more."""
    words = [(AMBIGUOUS, word) for word in listed("ambiguous")]
    words += [(TOXIC, word) for word in listed("toxic")]
    words += [(SLUR, word) for word in listed("slurs")]
    words += further_words(further) if further is not None else ()
    known = dict.fromkeys(_THREAT_WORDS, THREAT)
    known |= {form: kind for kind, word in words for form in with_plurals(word)}
    return known


def _kinds_of(words: set[str], known: dict[str, str], stretched: bool) -> dict[str, str]:
    """The kind of each word that is listed, also if it is disguised (sh1t, f*ck, fuuuck)."""
    kinds = {word: known[word] for word in known.keys() & words}
    for word in words:
        if word.isalpha() and not (stretched and _STRETCHED.search(word)):
            continue
        kind = _disguised(word, known) or _shortened(word, known)
        if kind is not None and word not in kinds:
            kinds[word] = kind
    return kinds


def _shortened(word: str, known: dict[str, str]) -> str | None:
    if not _STRETCHED.search(word):
        return None
    once, twice = _STRETCHED.sub(r"\1", word), _STRETCHED.sub(r"\1\1", word)
    return _plain(once, known) or _plain(twice, known)


def _disguised(word: str, known: dict[str, str]) -> str | None:
    if sum(map(str.isalpha, word)) * 2 <= len(word):
        return None
    head, star, tail = word.partition("*")
    if not star:
        return _plain(word.translate(_DISGUISE), known)
    # One vowel may be starred; a*b and sh*t are products as well.
    if len(tail) < 2 or not head or "*" in tail:
        return None
    return next(filter(None, (_plain(head + vowel + tail, known) for vowel in "aeiou")), None)


def _plain(word: str, known: dict[str, str]) -> str | None:
    """The kind of a disguised word's plain form; None if that is ambiguous, short or not listed."""
    kind = known.get(word)
    return kind if kind in (SLUR, TOXIC) and len(word) >= 4 else None


def _spelled(match: re.Match[str]) -> str:
    return match.group()[::2]


DESCRIPTION = RuleDescription(
    rules=lambda section: [Toxicity(section)],
    behind_duplicates=True,
    summary="slurs, set apart from talk about them, and abuse that is aimed at somebody; English",
    not_applied="slurs and toxic words were not looked for",
    limits="Toxicity is judged by lists of words and their company: hostility without such"
    " words passes, and quoted words may have cost a document its place.",
    files=lambda section: [section.words] if section.words else [],
)
