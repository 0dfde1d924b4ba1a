"""Texts parted into clauses, with contractions written out: what abstention.py reads."""

import re
from dataclasses import dataclass

from trainer.evaluate.judging.phrases import phrase
from trainer.evaluate.judging.plain_words import unaccented
from trainer.evaluate.judging.spelling import respelled

_WRITTEN_OUT = [
    (re.compile(rf"\b{short}\b"), full)
    for short, full in (
        (r"ca(?:n't|nt)|cannot|can't", "can not"),
        (r"wo(?:n't|nt)", "will not"),
        (r"shan't", "shall not"),
        (r"(?:ain'?t|in't) (?=(?:got|seen|heard|ever|no (?:idea|clue))\b)", "have not "),
        (r"i ai?n'?t", "i am not"),
        (r"ain'?t", "is not"),
        (r"(is|are|was|were|do|does|did|have|has|had|could|would|should|need|must)n'?t", r"\1 not"),
        (r"(do|does|did|is|was|have|has|could|would)(?:n[;` ]|'n)t", r"\1 not"),
        (r"i?d[uo]*n+ow?", "do not know"),
        (r"nto", "not"),
        (r"(?<=never )herd", "heard"),
        (r"idk|i\.d\.k", "i do not know"),
        (r"i'?m", "i am"),
        (r"(i|we|you|they)'?ve", r"\1 have"),
        (r"(you|they|we)'re", r"\1 are"),
        (r"(i|we|you|they|he|she|it|that|there|this)'d", r"\1 would"),
        (r"(i|we|you|they|he|she|it|that|there|this)'ll", r"\1 will"),
        (r"(it|that|there|here|what|who|he|she|this|name|answer|one|mind|memory)'s", r"\1 is"),
        (r"do(?:se|s|ese)n'?t", "does not"),
        (r"thats", "that is"),
        (r"theres", "there is"),
        (r"anybody|any one", "anyone"),
        (
            r",? (?:man|mate|m8|bro|dude|buddy|pal|(?:my )?friend|sir|madam|folks|guys|lol|tbh|imo)"
            r"(?=\s*(?:[.!?]|$))",
            "",
        ),
        (r"idon'?t ?know", "i do not know"),
        (r"gotta", "have to"),
        (r"non-existent|non existent", "nonexistent"),
        (r"made-up", "made up"),
        (r"n/a|n\.a\.?", "not applicable"),
    )
]
_KNOWN_BUT_NOT = re.compile(
    r"\b(?P<known>(?:i|we) (?:(?!not )\w+ ){0,2}?(?:know|recall|remember|recogni[sz]e|heard of|read"
    r"|seen|tell you|familiar with|aware of|come across) [^.!?;:\n]{0,300}?)"
    r"(?:(?:,? (?:but|though|although|yet|and)|, (?:just|only|merely|sadly|unfortunately))"
    r"(?: just| only| sadly| unfortunately|,)* not"
    r"(?= (?:\w+ )?(?:the|this|that|its|his|her|their|any|much|more|anything|enough)\b"
    r"| (?:\w+ )?(?:who|whom|whose|what|when|where|which|why|how)\b)"
    r"|, not(?= (?:\w+ )?(?:who|whom|whose|what|when|where|which|why|how)\b))"
)
"""What is known, before what is not, its verb left out: "I know the title but not the author"."""
_SENTENCE_END = re.compile(r"(?<=[^\W\d])[.](?=\s|$)|(?<=[\d)\"'])[.](?=\s|$)|[.](?=\s*$)|[!?;\n]+")
_TURN = re.compile(
    r",?\s*\b(?:but|however|though|although|nevertheless|nonetheless|yet(?! to\b)|whereas)\b"
    r",?\s*|(?:,\s*|^)still\b,?\s*"
    r"|,\s*(?=(?:maybe|perhaps|probably|possibly|presumably|it (?:is|was|might|could|may|would)"
    r"|my (?:\w+ )?guess|i (?:think|would|believe|guess|suspect|assume)|if i had|unless (?:i|my)"
    r"|the \w+ (?:is|was))\b)"
    r"|,\s*(?=i (?:(?:do|can|could|am) )?not (?:\w+ )?(?:know|recall|remember|say|sure)"
    r" (?:of |about )?(?:the|his|her|its|their)"
    r" (?:first|full|last|exact|given|middle|other|precise)\b)"
    r"|,\s*(?=(?:whose|(?:about|of|to|for) (?:whom|whose|which))\b)"
    r"|,\s*(?=i am (?:not (?:\w+ )?(?:sure|certain)|unsure|uncertain)(?: which| though)?\s*$)"
    r"|(?:(?<=^i do not know)|(?<=^not sure)),\s*(?!(?:really |quite )?(?:(?!italy|sicily)\w+ly"
    r"|dear|darling|honey|love|sweetheart|boss|chief|user|kid|either|too|period|full stop|at all"
    r"|anymore|myself|sorry|thanks|thank you|okay|ok|please)\s*$)(?=[\w-]+(?: [\w-]+){0,2}\s*$)"
    r"|\s+-+\s+|:\s|,\s*(?:so|and|as|since|because)\s+(?!far\b)(?=\w)|\s+(?:because|so)\s+(?=(?:i|we|it)\b)"
)
_LABEL = re.compile(
    r"^\W*(?:\d{1,2}[.)]|[a-d]\))\s+(?=[^\W\d])(?!(?:and|or)\b)"
    r"|^\W*(?:(?:\d{1,2}[.)]|[a-d]\))\s+)?(?:a|answer|response|assistant)\s*:\s*"
)
"""What numbers or announces an answer: "1. ", "Answer: "."""
_ASIDE = re.compile(
    r", (?:in fact|indeed|unfortunately|sadly|honestly|frankly|actually|to be (?:honest|frank)"
    r"|regrettably|alas|i am afraid|i fear|of course|in truth|truthfully),"
)
_BRACKETED = re.compile(r"\([^()\n]*\)")
_QUOTED_REFUSAL = re.compile(r"(?:i do not know|i am not sure|unknown)[.!]?")
_SPACE = re.compile(r"\s+")
_ABBREVIATIONS = re.compile(r"\b(?:st|mt|dr|mr|mrs|ms|vs|ca|[a-z])\.(?=\s+\w)|\bno\.(?=\s*\d)")


LONGEST_CLAUSE = 600
"""Characters after which a clause is parted between words: what is read to its end, and from each
of its words on, would otherwise take a time that grows with its square. Five times the longest that
people say."""


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that says one thing.

    `text`: lower case, contractions written out, no punctuation but commas and hyphens inside;
    `first`: whether it begins its sentence; `asks`: whether its sentence ends in a question mark.
    """

    text: str
    first: bool
    asks: bool


def clauses(text: str) -> list[Clause]:
    """The clauses of a text, in order: parted at the ends of sentences and at "but" and its like.

    What stands in quotation marks is one word of its clause (a title is no statement), and what
    stands in brackets none, unless there is nothing else.
    """
    found = []
    for sentence, asks in _sentences(_written_out(text)):
        parts = [piece for part in _TURN.split(sentence) for piece in _pieces(_bare(part))]
        filled = [part for part in parts if part]
        found += [Clause(part, index == 0, asks) for index, part in enumerate(filled)]
    return found


def _written_out(text: str) -> str:
    things = phrase("denial", "labelled").pattern
    # A pattern that begins with \s tries a long run of space from each of its places.
    single = _SPACE.sub(_one_space, unaccented(text))
    lower = _without(_LABEL, single.casefold())
    lower = _without(re.compile(rf"^\W*(?:the )?(?:{things})(?: \w+)?\s*:\s*"), lower)
    lower = respelled(lower)
    for short, full in _WRITTEN_OUT:
        lower = short.sub(full, lower)
    lower = _KNOWN_BUT_NOT.sub(r"\g<known>, but i do not know", lower)
    lower = re.sub(r"\"[^\"\n]{1,80}\"|(?<!\w)'[^'\n]{1,80}'(?!\w)", _quoted, lower)
    lower = _without(_BRACKETED, lower, " ")
    lower = _ASIDE.sub(" ", lower)
    return _ABBREVIATIONS.sub(lambda found: found.group()[:-1], _SPACE.sub(_one_space, lower))


def _without(aside: re.Pattern[str], text: str, instead: str = "") -> str:
    """The text without its asides; as it stands where no word would be left: "(Paris)"."""
    rest = aside.sub(instead, text)
    return rest if re.search(r"\w", rest) else text


def _one_space(found: re.Match[str]) -> str:
    return "\n" if "\n" in found.group() else " "


def _quoted(found: re.Match[str]) -> str:
    """A quoted title as one word, its own punctuation gone; a whole quoted answer stays."""
    inside = found.group()[1:-1]
    if _QUOTED_REFUSAL.fullmatch(inside):
        return inside
    if found.start() == 0 and found.end() >= len(found.string.rstrip(" .")):
        return inside
    return " quoted" if inside[-1:] not in ".!?," else " quoted" + inside[-1]


def _sentences(text: str) -> list[tuple[str, bool]]:
    found, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        found.append((text[start : end.start()], "?" in end.group()))
        start = end.end()
    return [*found, (text[start:], False)]


def _bare(part: str) -> str:
    kept = re.sub(r"[^\w\s,'-]|(?<!\w)['-]|['-](?!\w)|_", " ", part)
    return _SPACE.sub(" ", kept).replace(" ,", ",").strip(" ,")


def _pieces(clause: str) -> list[str]:
    """A clause, parted between words where it is longer than any that is said."""
    pieces = []
    while len(clause) > LONGEST_CLAUSE:
        end = clause.rfind(" ", 1, LONGEST_CLAUSE)
        end = LONGEST_CLAUSE if end < 0 else end
        pieces.append(clause[:end].strip(" ,"))
        clause = clause[end:].strip(" ,")
    return [*pieces, clause]
