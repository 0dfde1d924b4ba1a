r"""Verifier `choice`: a text claims the right one of several choices, by its letter or its text.

A letter is claimed where the text is little else ("B", "(b) Paris", "B. Paris"), behind "answer",
"option", "choice" or in `\\boxed{}`, and in brackets; all that are claimed must be right, and a
choice's text beside a letter must be that letter's. Where no letter is claimed, the choices' texts
are judged as names and their rivals are, with their signs ("C++" is not "C"); one whose words are
another's, too ("5", "5%"), is claimed by its letter or alone. Two different choices are wrong.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from string import ascii_uppercase

from trainer.errors import DataError
from trainer.evaluate.judging.answers import is_right
from trainer.evaluate.judging.expected import ExpectedAnswer
from trainer.evaluate.judging.plain_words import plain_words
from trainer.questions.exactly import compared
from trainer.questions.marks import signed
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict

_MARKUP = re.compile(r"[*_`$]|\\(?:text|mathrm|boxed)\b|[{}]")
_BEGINS = re.compile(r"\s*[(\[]?(?P<letter>[A-Za-z])(?:[)\]:.]|\s*$|\s+-\s)")
_INTRODUCED = re.compile(
    r"\b(?:(?i:answer|choice|option|letter)s?(?i:\s+(?:is|are|would be|must be|should be))?\s*[:=]?"
    r"|(?i:it\s+is|it's|choose|pick|select)(?i:\s+(?:option|choice|answer))?)"
    r"\s*[(\[\"']?(?P<letter>[A-Z]|(?<=[(\[])[a-z])[)\]\"']?(?![\w'])"
)
_THOUGHT = re.compile(
    r"\b(?i:i(?:'d|'ll|\s+would|\s+will)?\s+(?:think|guess|believe|say|go\s+(?:with|for)))"
    r"\s+(?P<letter>[A-HJ-Z])(?=\s*(?:[.,;:!)]|$))"
)
"""Less than "choose" says that a letter follows: "I think A dog", "I guess I ..."."""
_BRACKETED = re.compile(r"[(\[](?P<letter>[A-Z])[)\]]")
_JOINED = re.compile(r"\s*(?:,|/|\b(?:or|and)\b|&)+\s*[(\[]?(?P<letter>[A-Z])[)\].]?(?![\w'])")
_DENIED = re.compile(
    r"\b(?:not|isn't|neither|nor|never|cannot be|except)\s+[(\[\"']?$", re.IGNORECASE
)


def choices_of(question: Question) -> dict[str, str]:
    """The choices' texts by their letters, in capitals."""
    given = question.options.get("choices")
    if isinstance(given, Mapping):
        return {str(letter).strip().upper(): str(text) for letter, text in given.items()}
    return dict(zip(ascii_uppercase, map(str, given or ()), strict=False))


def right_letters(question: Question) -> set[str]:
    """The letters of the right choices, given as letters or texts."""
    choices = choices_of(question)
    texts = {compared(text): letter for letter, text in choices.items()}
    found = set()
    for answer in question.answers:
        letter = texts.get(compared(answer)) or answer.strip(" ().").upper()
        if letter in choices:
            found.add(letter)
    return found


def is_a_choice_alone(question: Question, text: str) -> str | None:
    """The letter of the choice that the text is, whole; None where it says anything else."""
    for shown in (text, _MARKUP.sub("", text)):
        for letter, choice in choices_of(question).items():
            label = rf"[(\[]?{re.escape(letter)}\s*[)\]:.-]*"
            body = re.fullmatch(rf"\s*(?:{label}\s+)?(.*)", shown, re.DOTALL | re.IGNORECASE)
            whole = re.fullmatch(rf"\s*{label}\s*", shown, re.IGNORECASE)
            if whole or (body and compared(body[1]) == compared(choice)):
                return letter
    return None


def verify_choice(question: Question, text: str) -> Verdict:
    """Whether a text claims one of the right choices, and none of the others."""
    choices, right = choices_of(question), right_letters(question)
    if (alone := is_a_choice_alone(question, text)) is not None:
        return Verdict("right" if alone in right else "wrong", f"is choice {alone}")
    plain = signed(_MARKUP.sub("", text))
    named = {letter: signed(choice) for letter, choice in choices.items()}
    claimed = dict.fromkeys(_claimed_letters(plain, choices))
    if claimed:
        shown = " and ".join(claimed)
        fitting = set(claimed) <= right and len(claimed) == 1 and _text_fits(plain, named, right)
        return Verdict("right" if fitting else "wrong", f"claims choice {shown}")
    words = Counter(map(plain_words, named.values()))
    told = {letter for letter in right if words[plain_words(named[letter])] == 1}
    names = tuple(named[letter] for letter in sorted(told))
    rivals = tuple(name for letter, name in named.items() if letter not in told)
    shown = repr(choices[min(right)])
    if is_right(plain, ExpectedAnswer(names, rivals, "name", question.text)):
        return Verdict("right", f"claims {shown}")
    return Verdict("wrong", f"does not claim {shown}")


def check_choice(question: Question) -> None:
    """Raise DataError where there are no choices, two of one text, or the key is none of them."""
    given = question.options.get("choices")
    if not isinstance(given, list | Mapping) or not 2 <= len(given) <= len(ascii_uppercase):
        raise DataError(
            f'{question.named}: verifier choice needs "choices", a list of 2 to 26 texts or an'
            " object of a text for each letter; give them, or set another verifier"
        )
    held = given.values() if isinstance(given, Mapping) else given
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in held):
        raise DataError(f"{question.named}: one of its choices is no text: leave it out")
    choices = choices_of(question)
    faulty = [name for name in choices if not re.fullmatch("[A-Z]", name)]
    if faulty:
        raise DataError(f"{question.named}: the choice {faulty[0]!r} has no letter for a name")
    if not all(text.strip() for text in choices.values()):
        raise DataError(f"{question.named}: one of its choices is empty: leave it out")
    if len({compared(text) for text in choices.values()}) < len(choices):
        raise DataError(f"{question.named}: two of its choices have one text: leave one out")
    for answer in question.answers:
        if not right_letters(Question(question.id, "", (answer,), options=question.options)):
            listed = ", ".join(f"{letter}: {text}" for letter, text in choices.items())
            raise DataError(
                f"{question.named}: the answer {answer!r} is none of its choices ({listed})"
            )


def _claimed_letters(plain: str, choices: Mapping[str, str]) -> Iterator[str]:
    """The letters that a text claims, denied ones left out, with those joined to them."""
    begins = _BEGINS.match(plain)
    if begins and begins["letter"].upper() in choices and not _is_a_word(plain, begins):
        yield from _with_joined(plain, begins, choices)
    for pattern in (_INTRODUCED, _THOUGHT, _BRACKETED):
        for found in pattern.finditer(plain):
            if found["letter"].upper() in choices and not _DENIED.search(plain[: found.start()]):
                yield from _with_joined(plain, found, choices)


def _is_a_word(plain: str, found: re.Match[str]) -> bool:
    """Whether the letter that a text begins with is "a" or "I" before a dash: "I - well"."""
    return found["letter"] in "aI" and plain[found.end("letter") :][:1].isspace()


def _with_joined(plain: str, found: re.Match[str], choices: Mapping[str, str]) -> Iterator[str]:
    yield found["letter"].upper()
    end = found.end()
    while joined := _JOINED.match(plain, end):
        if joined["letter"] in choices:
            yield joined["letter"]
        end = joined.end()


def _text_fits(plain: str, choices: Mapping[str, str], right: set[str]) -> bool:
    """Whether no other choice's text stands directly behind the letter that is claimed."""
    for found in re.finditer(r"(?<!\w)(?P<letter>[A-Z])\s*[)\]:.\"'-]*\s*", plain):
        if found["letter"] not in right:
            continue
        behind = f"{plain_words(plain[found.end() :])} "
        begun = [
            (len(words), letter)
            for letter, text in choices.items()
            if (words := plain_words(text)) and behind.startswith(f"{words} ")
        ]
        if begun and max(begun)[1] not in right:
            return False
    return True
