"""What a right answer is: its names, what it must not be taken for, and how it is written."""

from dataclasses import dataclass
from typing import Literal

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
