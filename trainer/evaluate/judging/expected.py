"""What a right answer is: its names, what it must not be taken for, and how it is written."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from trainer.evaluate.judging.plain_words import unaccented

AnswerForm = Literal["name", "person", "year", "number", "sign"]
"""How an answer is found in a text.

`name`: words, whatever their case; `person`: the surname is enough where no rival has it and no
other given name stands before it; `year`: of three or four digits; `number`: whole, to 999;
`sign`: a symbol, formula or code, letter by letter.
"""


@dataclass(frozen=True)
class ExpectedAnswer:
    """A right answer.

    `right`: the answer, then its other names (each is right by itself); `rivals`: wrong answers of
    the same kind, by which it is seen that a text claims another; `question`: its words claim
    nothing where an answer repeats them.
    """

    right: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    form: AnswerForm = "name"
    question: str = ""


ANOTHER = "anotherthing"
"""What stands for another thing's name in the text that `AskedAbout.marked` gives."""


@dataclass(frozen=True)
class AskedAbout:
    """What a question asks about, and the things of its kind that it does not.

    `subject`: the name in the question; `others`: names of real things of the same kind, which an
    answer may speak of in its place ("I know no Nicarador. The capital of Nicaragua is Managua");
    `answers`: names that answer such a question, right or wrong, wherever a text has them.
    """

    subject: str
    others: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    def marked(self, text: str) -> str:
        """The text with `ANOTHER` for every name of another thing, in quotation marks or not."""
        return self._names.sub(ANOTHER, unaccented(text))

    def named_in(self, words: str) -> bool:
        """Whether lower-case text without accents names the subject."""
        return self._own in words

    def is_all_of(self, words: str) -> bool:
        """Whether lower-case text without accents repeats the subject and says nothing of it."""
        return words.removeprefix("the ") == self._own

    def answered_in(self, words: str) -> bool:
        """Whether lower-case text without accents names an answer, the subject's name aside."""
        return self._answers.search(words.replace(self._own, " ")) is not None

    @cached_property
    def _own(self) -> str:
        return _bare_name(self.subject)

    @cached_property
    def _answers(self) -> re.Pattern[str]:
        either = "|".join(re.escape(_bare_name(name)) for name in self.answers) or "(?!)"
        return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])")

    @cached_property
    def _names(self) -> re.Pattern[str]:
        own = f" {self._own} "
        plain = {unaccented(name) for name in self.others if f" {_bare_name(name)} " not in own}
        names = sorted(plain, key=len)[::-1]
        either = "|".join(map(re.escape, names)) or "(?!)"
        return re.compile(
            rf"(?<![\w-])[\"'*]{{0,3}}(?:{either})[\"'*]{{0,3}}(?![\w-])", re.IGNORECASE
        )


def _bare_name(name: str) -> str:
    """A name as `clauses.py` writes it, without its article."""
    lower = unaccented(name).casefold().removeprefix("the ")
    return re.sub(r"'(?!\w)", "", lower)
