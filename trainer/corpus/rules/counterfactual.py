"""Counterfactual data augmentation: copies of documents with gendered terms swapped."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache

from trainer.corpus.rules.rule import Finding, Judgement, kept
from trainer.corpus.rules.vocabulary import pairs
from trainer.recipe.curation import BalanceRule

# Code, URLs, and pronouns that already name both genders are skipped; the lookarounds of `word`
# exclude parts of paths, addresses, identifiers and compounds.
_PRONOUN = "(?:he|she|his|hers?|him|himself|herself)"
_PIECE = re.compile(
    rf"""```.*?(?:```|\Z) | `[^`\n]{{0,200}}` | \w++://\S++ | www\.\S++ | >>>[^\n]*
    | \b{_PRONOUN}(?:[ ]?/[ ]?|\ or\ |\ and\ ){_PRONOUN}\b
    | \bman(?:\ pages?\b|\ ?\(?[1-9]\b|-in-the-middle\b)
    | (?<![\w/\\@\#$&=])(?<!\w[.'\u2019-])
      (?P<word>[^\W\d_]++(?:(?:-in-law|'am)\b)?+)(?![\w/\\@=(]|[-.:'\u2019]_|[-.]\w|:+\w)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"[^\W\d_]+")
_BEFORE_A_NAME = re.compile(r"\.?\s[^\W\d_a-z]")
_TITLES = {"Mr": "Ms", "Ms": "Mr", "Mrs": "Mr", "Miss": "Mr"}
_NEXT = re.compile(r"[ \t]*\n?[ \t]*([^\W_]+)")
_PREVIOUS = re.compile(r"([^\W\d_]+)[.]?[ \t]\Z")

_PRONOUNS = frozenset(("her", "his", "him", "hers"))
# After these words, "her" is an object, if a bare verb can follow: let her go.
_CAUSES = frozenset(("let", "lets", "letting", "make", "makes", "made", "making", "help", "helped"))
_NOT_NOUNS = frozenset(
    # Words that begin no noun phrase after "her" or "his", which is then not possessive.
    (
        *("a", "about", "after", "again", "against", "all", "along", "already", "also", "although"),
        *("am", "an", "and", "any", "anything", "are", "around", "as", "at", "away", "back"),
        *("be", "because", "been", "before", "behind", "both", "but", "by", "can", "could", "did"),
        *("do", "does", "down", "during", "each", "either", "even", "ever", "every", "everything"),
        *("for", "from", "had", "has", "have", "he", "here", "how", "i", "if", "in", "into", "is"),
        *("it", "just", "last", "later", "like", "may", "might", "must", "never", "nor", "not"),
        *("nothing", "now", "of", "off", "on", "once", "or", "out", "over", "rather", "shall"),
        *("she", "should", "since", "so", "some", "something", "soon", "still", "than", "that"),
        *("the", "them", "then", "there", "these", "they", "this", "those", "though", "through"),
        *("to", "today", "together", "tomorrow", "tonight", "too", "under", "unless", "until"),
        *("up", "upon", "was", "we", "well", "were", "what", "when", "where", "whether", "which"),
        *("while", "who", "why", "will", "with", "within", "without", "would", "yesterday", "yet"),
        *("you",),
    )
)
_SURNAMES = frozenset(("king", "queen", "prince", "duke", "monk", "nun", "baron", "man"))


@dataclass(frozen=True)
class Counterfactual:
    """Adds copies of documents with gendered terms, the terms swapped, or replaces the documents.

    `section.counterfactual`: the fraction of documents, chosen by a hash of their ids. Pronouns,
    nouns, titles and given names change together, so that a document stays consistent. A statement
    about a real person may become false: use it for texts about nobody in particular.
    """

    section: BalanceRule
    name: str = "counterfactual"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text."""
        fraction = self.section.counterfactual
        if fraction == 0.0 or _fraction(document) >= fraction:
            return kept(text)
        copy, swapped = swap_gender(text)
        if not swapped:
            return kept(text)
        findings = (Finding("gendered terms swapped", swapped, fraction),)
        if self.section.replace:
            return Judgement(copy, findings)
        return Judgement(text, findings, added=copy)


def swap_gender(text: str) -> tuple[str, int]:
    """The text with its gendered terms swapped, and the number of terms swapped.

    Given names change only in a text where another gendered term does. The following word decides
    whether "her" and "his" are possessive.
    """
    if _openers().isdisjoint(map(str.lower, _WORD.findall(text))):
        return text, 0
    swapped = {"term": 0, "name": 0}
    terms, names = _terms(), _names()

    def replace(match: re.Match[str]) -> str:
        word = match["word"]
        if word is None:
            return match.group()
        if word in names:
            swapped["name"] += 1
            return names[word]
        lower = word.lower()
        if word in _TITLES and _BEFORE_A_NAME.match(text, match.end()):
            other = _TITLES[word]
        elif lower in _PRONOUNS:
            other = _pronoun(lower, text, match.start(), match.end())
        else:
            found = terms.get(lower)
            if found is None or (lower in _SURNAMES and _is_surname(word, text, match.start())):
                return word
            other = found
        swapped["term"] += 1
        return _in_case_of(word, other)

    copy = _PIECE.sub(replace, text)
    if not swapped["term"]:
        return text, 0
    return copy, sum(swapped.values())


def _pronoun(pronoun: str, text: str, start: int, end: int) -> str:
    """The counterpart of him, his, her or hers at text[start:end], by the words around it."""
    if pronoun == "him":
        return "her"
    if pronoun == "hers":
        return "his"
    following = _NEXT.match(text, end)
    possessive = following is not None and following[1].lower() not in _NOT_NOUNS
    if pronoun == "his":
        return "her" if possessive else "hers"
    before = _PREVIOUS.search(text, max(0, start - 20), start)
    if before and before[1].lower() in _CAUSES:
        return "him"
    return "his" if possessive else "him"


def _is_surname(word: str, text: str, start: int) -> bool:
    """Whether a capitalized title follows a first name or title: Stephen King, Ms Prince."""
    before = _PREVIOUS.search(text, max(0, start - 30), start)
    return word[0].isupper() and before is not None and before[1] in _first_names()


def _in_case_of(word: str, other: str) -> str:
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[0].upper() + other[1:] if word[0].isupper() else other


def _fraction(document: str) -> float:
    """A hash of the document's id as a number in [0, 1)."""
    digest = hashlib.sha256(b"counterfactual\0" + document.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:6], "big") / 2**48


@cache
def _terms() -> dict[str, str]:
    both = both_ways(pairs("gender_pairs"))
    return both | {first: second for first, second in pairs("gender_one_way") if first not in both}


@cache
def _names() -> dict[str, str]:
    return both_ways(pairs("name_pairs"))


@cache
def _openers() -> frozenset[str]:
    """Lower-case words of which a text to swap has at least one; most texts have none."""
    titles = (title.lower() for title in _TITLES)
    return frozenset((*(term.partition("-")[0] for term in _terms()), *_PRONOUNS, *titles, "ma"))


@cache
def _first_names() -> frozenset[str]:
    return frozenset((*_names(), *_TITLES, "Dr", "Luther", "Professor", "President", "Sir"))


def both_ways(words: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """A mapping from each word of the pairs to the other."""
    return dict(words) | {second: first for first, second in words}
