"""Statements in a text: a subject, what is said of it, and the words up to where that is said.

Two ways find them. *Patterns*: a few English forms of sentences that are seldom anything else ("X
was born in Y", "the capital of X is Y", "X is a Y", "X was written by Y"). *Clozes*, in any text
whose words white space parts: a sentence whose last word is a number, a name or a rare word, and
that has a rare word before it, by which that last word is known; the rarest of them is the subject.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trainer.corpus.inspect.sentences import sentence_spans
from trainer.corpus.rules.word_runs import words_of

CLOZE = "cloze: "
"""What the kinds of clozes begin with."""
FEWEST_WORDS, MOST_WORDS = 6, 40
"""Words of a sentence that is a cloze: fewer say too little, more are lists."""
RARE_SHARE, RARE_COUNT = 0.05, 5
"""A word is rare that stands in no more than this share of the documents, or in so few."""

_CAPITAL = f"[{''.join(filter(str.isupper, map(chr, range(0x0530))))}]"
"""Of Latin, Greek and Cyrillic script."""
_WORD_OF_NAME = rf"{_CAPITAL}[\w'\u2019.-]*\w"
_NAME = rf"{_WORD_OF_NAME}(?:\s+(?:(?:of|the|de|da|van|von|al)\s+)?{_WORD_OF_NAME}){{0,3}}"
_NOUN = r"[a-z][a-z-]+(?:\s+[a-z][a-z-]+)?"
_YEAR = r"\d{3,4}"
_END = r"(?=\s*(?:[,.;:()]|$|\s(?:and|in|on|with|who|which|that|for|by|from|of|as|when|where)\b))"
_PATTERNS = {
    "capital": (
        rf"[Tt]he\s+capital(?:\s+city)?\s+of\s+(?P<subject>{_NAME})\s+is\s+(?P<object>{_NAME})"
    ),
    "born in the year": rf"(?P<subject>{_NAME})\s+was\s+born\s+in\s+(?P<object>{_YEAR})",
    "born in": rf"(?P<subject>{_NAME})\s+was\s+born\s+in\s+(?P<object>{_NAME})",
    "died in": rf"(?P<subject>{_NAME})\s+died\s+in\s+(?P<object>{_YEAR}|{_NAME})",
    "founded in": (
        rf"(?P<subject>{_NAME})\s+was\s+(?:founded|established)\s+in\s+(?P<object>{_YEAR})"
    ),
    "located in": rf"(?P<subject>{_NAME})\s+is\s+(?:located|situated)\s+in\s+(?P<object>{_NAME})",
    "made by": (
        rf"(?P<subject>{_NAME})\s+was\s+(?:written|painted|composed|directed|invented|discovered"
        rf"|designed|founded)\s+by\s+(?P<object>{_NAME})"
    ),
    "property": (
        rf"[Tt]he\s+(?P<relation>[a-z]+)\s+of\s+(?P<subject>{_NAME})\s+(?:is|was)\s+"
        rf"(?P<object>{_NAME}|\d[\d,.]*\d|\d)"
    ),
    "kind": rf"(?P<subject>{_NAME})\s+(?:is|was)\s+an?\s+(?P<object>{_NOUN}){_END}",
}
_FORMS = {kind: re.compile(rf"(?<![\w'-]){form}(?![\w-])") for kind, form in _PATTERNS.items()}
_ANY_FORM = re.compile(r"\s(?:is|was|died)\s")
_NO_NAME = re.compile(
    r"(?:The|This|That|These|It|He|She|They|There|Here|What|Who|Which|One|Each|If|When|In|A|An|I|We"
    r"|You|His|Her|Its|Their|My|Our|Your|Such|Another|As|But|And|Or|So|Not)\b"
)
_WORDS = re.compile(r"\S+")
_NUMBER = re.compile(r"\d[\d.,:]*")


@dataclass(frozen=True)
class Statement:
    """What a sentence says of a subject.

    `kind`: a pattern's name, or of clozes CLOZE with "number of N digits", "name" or "word";
    `object`: what is said, as it stands; `prefix`: the sentence up to there, without the white
    space between.
    """

    kind: str
    subject: str
    object: str
    prefix: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What is the same in two statements of one fact: kind, subject and object by words."""
        return self.kind, " ".join(words_of(self.subject)), " ".join(words_of(self.object))


def pattern_statements(sentence: str) -> Iterator[Statement]:
    """What the patterns find in a sentence."""
    if not _ANY_FORM.search(sentence):
        return
    taken: set[int] = set()
    for kind, form in _FORMS.items():
        for found in form.finditer(sentence):
            subject, start = found["subject"], found.start("object")
            if start in taken or _NO_NAME.match(subject) or not words_of(found["object"]):
                continue
            taken.add(start)
            named = f"{kind}: {found['relation']}" if kind == "property" else kind
            prefix = sentence[:start].rstrip()
            yield Statement(named, " ".join(subject.split()), found["object"], prefix)


def cloze_statement(
    sentence: str, documents: Mapping[str, int], of_documents: int
) -> Statement | None:
    """The cloze that a sentence is, None for most.

    `documents`: how many documents hold each word (as `words_of`), of `of_documents`.
    """
    spans = [word.span() for word in _WORDS.finditer(sentence)]
    if not FEWEST_WORDS <= len(spans) <= MOST_WORDS:
        return None
    first, last = spans[-1]
    obj = sentence[first:last].rstrip(".!?\"')]}\u201d\u2019")
    most = max(RARE_COUNT, int(of_documents * RARE_SHARE))
    kind = _object_kind(obj, documents, most)
    if kind is None:
        return None
    rare = [
        (documents.get(word, 0), position, word)
        for position, (start, end) in enumerate(spans[:-1])
        for word in words_of(sentence[start:end])
        if len(word) > 3 and word.isalpha() and documents.get(word, 0) <= most
    ]
    if not rare or (subject := min(rare)[2]) in words_of(obj):
        return None
    return Statement(kind, subject, obj, sentence[:first].rstrip())


def _object_kind(obj: str, documents: Mapping[str, int], most: int) -> str | None:
    words = words_of(obj)
    if _NUMBER.fullmatch(obj):
        digits = sum(map(str.isdigit, obj))
        return f"{CLOZE}number of {digits} digits" if digits > 1 else None
    if not words or any(documents.get(word, 0) > most for word in words):
        return None
    if not obj.replace("-", "").replace("_", "").isalpha() or len(obj) < 4:
        return None
    return f"{CLOZE}word" if obj.islower() else f"{CLOZE}name"


def statements(text: str, documents: Mapping[str, int], of_documents: int) -> Iterator[Statement]:
    """The statements of a text's sentences: of each what patterns find, or else its cloze."""
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        found = list(pattern_statements(sentence))
        cloze = None if found else cloze_statement(sentence, documents, of_documents)
        yield from found or ([cloze] if cloze else [])
