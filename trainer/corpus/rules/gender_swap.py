"""Gendered terms of texts swapped: pronouns, nouns, titles and given names together."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from trainer.corpus.rules.vocabulary import pairs

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
_CODE = ("`", ">>>")
_WORD = re.compile(r"[^\W\d_]+")
_BEFORE_A_NAME = re.compile(r"\.?\s[^\W\d_a-z]")
_TITLES = {"Mr": "Ms", "Ms": "Mr", "Mrs": "Mr", "Miss": "Mr"}
# With the letter behind a hyphen: "in-laws" is a noun, though "in" begins none.
_NEXT = re.compile(r"[ \t]*\n?[ \t]*([^\W_]+(?:-[^\W_])?)")
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
        *("you", "another", "me", "us", "no"),
        *("my", "your", "his", "her", "its", "our", "their", "whose"),
    )
)
_SURNAMES = frozenset(("king", "queen", "prince", "duke", "monk", "nun", "baron", "man"))


@dataclass(frozen=True)
class Swapped:
    """Texts with their gendered terms swapped, and the number of terms and names swapped.

    `torn`: the words, in lower case, that were swapped in one place and left as code in another.
    """

    texts: tuple[str, ...]
    count: int
    torn: frozenset[str] = frozenset()


def swap_gender(text: str) -> tuple[str, int]:
    """The text with its gendered terms swapped, and the number of terms swapped.

    Given names change only in a text where another gendered term does. The following word decides
    whether "her" and "his" are possessive.
    """
    swapped = swap_together((text,))
    return swapped.texts[0], swapped.count


def swap_together(texts: Sequence[str]) -> Swapped:
    """Texts that belong together, such as the turns of a conversation, swapped as one text is.

    Given names change in all of them where another gendered term does in one.
    """
    if not any(map(_may_hold_terms, texts)):
        return Swapped(tuple(texts), 0)
    swap = _Swap()
    copies = tuple(_PIECE.sub(swap, text) for text in texts)
    if not swap.terms:
        return Swapped(tuple(texts), 0)
    code = {word.lower() for piece in swap.code for word in _WORD.findall(piece)}
    return Swapped(copies, swap.terms + swap.names, frozenset(code & swap.words))


def count_gendered(text: str) -> int:
    """The number of gendered terms and given names that have a counterpart."""
    swap = _Swap()
    _PIECE.sub(swap, text)
    return swap.terms + swap.names


def _may_hold_terms(text: str) -> bool:
    return not _openers().isdisjoint(map(str.lower, _WORD.findall(text)))


@dataclass
class _Swap:
    """What to write for each piece of texts, and what was swapped and passed over so far."""

    terms: int = 0
    names: int = 0
    words: set[str] = field(default_factory=set)
    code: list[str] = field(default_factory=list)

    def __call__(self, match: re.Match[str]) -> str:
        word = match["word"]
        if word is None:
            if match.group().startswith(_CODE):
                self.code.append(match.group())
            return match.group()
        if (name := _names().get(word)) is not None:
            self.names += 1
            self.words.add(word.lower())
            return name
        other = _counterpart(word, match)
        if other is None:
            return word
        self.terms += 1
        self.words.add(word.lower())
        return _in_case_of(word, other)


def _counterpart(word: str, match: re.Match[str]) -> str | None:
    """What takes the place of a word where it is a gendered term, in lower case."""
    lower, text = word.lower(), match.string
    if word in _TITLES and _BEFORE_A_NAME.match(text, match.end()):
        return _TITLES[word]
    if lower in _PRONOUNS:
        return _pronoun(lower, text, match.start(), match.end())
    found = _terms().get(lower)
    if lower in _SURNAMES and found is not None and _is_surname(word, text, match.start()):
        return None
    return found


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
