"""Whether an answer about a passage gives the passage's value, the world's, or admits that none is.

A value is given where it stands as whole words (`plain_words.py`) that nothing in their clause
denies; where both values are given, the one counts whose clause comes first, unless that clause
only concedes it ("Although Canberra is the capital").
"""

import re
from collections.abc import Sequence

from trainer.evaluate.judging.abstention import abstention
from trainer.evaluate.judging.clauses import Clause, clauses
from trainer.evaluate.judging.ignorance import knows_nothing
from trainer.evaluate.judging.phrases import phrase
from trainer.evaluate.judging.plain_words import plain_words, unaccented
from trainer.evaluate.judging.silence import says_nothing_of_it
from trainer.evaluate.judging.statement import answers_after_all

_CLAUSES = re.compile(
    r"((?<!\b\w)[.](?=\s|$)|[,;:!?](?=\s|$)|[()\n]|\b(?:but|rather|instead|however|although|though|while|whereas|which"
    r"|(?<!hundred )(?<!thousand )and)\b)",
    re.IGNORECASE,
)
_CONCEDES = frozenset({"although", "though", "while", "whereas"})
"""What begins a clause that the main clause goes against: "Although Canberra is the capital"."""
_ASIDE = re.compile(
    r"in (?:real(?:ity| world| life)|actual (?:fact|world|life)|fact|truth|actuality)|\w+ly"
    r"|of course|today|nowadays|as (?:\w+ )*(?:know|knows|known)"
)
"""What may stand before a comma in a clause that goes on behind it, in plain words."""
_NEGATED = re.compile(
    r"\b(?:not|no|never|nor|neither|without|cannot"
    r"|(?:do|does|did|is|was|are|were|has|have|ca|could|would|wo)nt)\b"
)


_BEFORE_NAMES = frozenset({"by", "it", "was", "is", "from", "of", "the"})
"""Words that begin a clause before a name, and are no given name."""


def first_given(text: str, values: Sequence[str]) -> tuple[bool, int] | None:
    """Whether the first clause that gives a value only concedes it, and its number; None: none.

    What an "although" concedes comes behind what other clauses give, whatever stands first.

    A value is given where it stands as whole words, with nothing in its clause before it that
    denies it: "it did not fall in 2002, but in 1989" gives 1989 alone. The family name of a person
    who is among the values is one too, but not behind the given name of somebody else.
    """
    parts = ["", *_CLAUSES.split(text)]
    marks, said = parts[::2], parts[1::2]
    given = [
        (concedes, at)
        for at, concedes in enumerate(_conceded(marks, said))
        if _gives(said[at], values)
    ]
    return min(given, default=None)


def _conceded(marks: Sequence[str], said: Sequence[str]) -> list[bool]:
    """Of each clause, behind its mark, whether an "although" concedes it.

    Until its first comma that closes no aside: "Although, in reality, it is Canberra, ...".
    """
    found = []
    concedes = goes_on = between_commas = False
    for mark, clause in zip(marks, said, strict=True):
        if not (goes_on and mark == ","):
            concedes, between_commas = mark.casefold() in _CONCEDES, False
        found.append(concedes)
        words = plain_words(clause)
        aside = _ASIDE.fullmatch(words) or (
            between_commas and not phrase("statement", "asserts").search(words)
        )
        goes_on = concedes and (not words or bool(aside))
        between_commas = not words
    return found


def _gives(clause: str, values: Sequence[str]) -> bool:
    words = f" {plain_words(clause)} "
    for value in values:
        before, found, _ = words.partition(f" {plain_words(value)} ")
        if found and not _NEGATED.search(before) and not _of_another(clause, value, values):
            return True
    return False


def _of_another(clause: str, value: str, values: Sequence[str]) -> bool:
    """Whether a family name stands behind a given name that no person among the values has."""
    persons = [one for one in values if one != value and one.endswith(f" {value}")]
    found = re.search(rf"\b([A-Z]\w+)\s+{re.escape(value)}\b", clause) if persons else None
    if found is None or found[1] in " ".join(persons).split():
        return False
    word = found[1].casefold()
    return word not in _BEFORE_NAMES and phrase("mentions", "title").fullmatch(word) is None


_NAME = re.compile(r"(?<=[a-z0-9,;] )[A-Z]\w+")
"""A word with a capital that does not begin its sentence."""


_COUNTS = re.compile(
    r"\b(?:paragraph|sentence|line|section|page|point|part)s? \d+(?: and \d+)?\b"
    r"|\b(?:mentions|names|lists|describes|discusses|talks about|speaks of|tells of)"
    r" (?:only |just )?\d (?:other )?(?:people|persons|names|places|things|facts|dates|details)\b"
)
"""Numbers that are of the passage itself: "see paragraph 2", "mentions 3 people"."""
_QUOTED = re.compile(r"\"([^\"\n]{1,80})\"")


def _tells_from_elsewhere(text: str, read: str) -> bool:
    """Whether a clause that admits nothing has a name or number that stands not in what was read.

    "The passage does not say, but the captain was Edward Smith".
    """
    known = set(plain_words(read).split())
    if known.issuperset(plain_words(" ".join(_QUOTED.findall(unaccented(text)))).split()):
        known.add("quoted")  # as clauses() writes a title
    no_answer = phrase("ignorance", "no_answer_name")
    admits = False
    for part in clauses(text):
        # What stands before may be the passage in other words.
        if admits and _is_news(part, known):
            return True
        admits = (
            admits
            or knows_nothing(part)
            or phrase("silence", "silence").search(part.text) is not None
        )
    for clause in _CLAUSES.split(text)[::2]:
        if says_nothing_of_it(clause) or abstention(clause) is not None:
            continue
        names = [name for name in _NAME.findall(clause) if not no_answer.fullmatch(name)]
        found = [word for name in names for word in plain_words(name).split()]
        numbers = _COUNTS.sub(" ", plain_words(clause))
        found += [word for word in numbers.split() if word.isdecimal()]
        if any(word not in known for word in found):
            return True
    return False


def _admits(clause: Clause) -> bool:
    """Whether a clause says that the passage does not tell, or that its speaker does not know."""
    return bool(phrase("silence", "silence").search(clause.text)) or knows_nothing(clause)


_RELATIVE = re.compile(r", (?:which|who|whose)\b(.*)")


def _is_news(clause: Clause, known: set[str]) -> bool:
    """Whether a clause states something in a word that was not read: "its currency is the real"."""
    if _admits(clause) or not answers_after_all(clause):
        return False
    of_the_text = phrase("silence", "of_the_text").search(clause.text)
    if of_the_text and of_the_text.group() not in {"it", "that", "they"}:
        return False
    stated = clause.text
    if phrase("silence", "of_its_content").search(stated):
        # What is said of it beside that: "It describes the tower, which was built by monks".
        stated = " ".join(_RELATIVE.findall(stated))
    idle = (phrase("ignorance", "no_answer_word"), phrase("statement", "about_word"))
    words = set(plain_words(stated).split()) - known
    return any(not any(one.fullmatch(word) for one in idle) for word in words)


_CONCLUDES = re.compile(
    r"(?:^|(?<=[.;!?] ))\s*(?:(?:and )?(?:hence|thus|therefore|consequently|accordingly|so|then"
    r"|as a (?:result|consequence)|for th(?:at|is) reason|in conclusion)), (?=\w)",
    re.IGNORECASE,
)
"""What joins an admission to the one before, and is no answer: "Hence, it is impossible to say"."""


def judge_grounded(
    text: str, answers: Sequence[str], world: Sequence[str], read: str | None = None
) -> str:
    """What an answer does: "passage", "memory", "refused", "other", or "empty".

    "passage": it gives the passage's value, one of `answers`; "memory": the world's, one of `world`
    (of both, the one whose clause comes first); "refused": neither, and it says that the passage
    does not say, or that it does not know (that there is no such thing is an answer); "other": none
    of these, or what it says has names or numbers that do not stand in `read`, the passage and the
    question (None: not looked at).
    """
    if not plain_words(text):
        return "empty"
    passage, memory = first_given(text, answers), first_given(text, world)
    if passage is not None and (memory is None or passage <= memory):
        return "passage"
    if memory is not None:
        return "memory"
    text = _CONCLUDES.sub("", text)
    if not says_nothing_of_it(text) and abstention(text) != "ignorance":
        return "other"
    return "other" if read is not None and _tells_from_elsewhere(text, read) else "refused"
