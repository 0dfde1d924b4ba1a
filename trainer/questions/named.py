"""The questions that a recipe names: those of files, and the bank's."""

from collections.abc import Sequence

from trainer.questions.bank import bank_questions
from trainer.questions.question import Question
from trainer.questions.reading import read_questions
from trainer.recipe.own_samples import BANK
from trainer.recipe.questions import VerifierName


def named_questions(names: Sequence[str], verifier: VerifierName, key: str) -> list[Question]:
    """The questions of the files, in their order, then those of the bank where `BANK` is named.

    `verifier`, `key` and errors as `read_questions` has them; that two have one id is for the
    caller to see.
    """
    files = [name for name in names if name != BANK]
    found = read_questions(files, verifier, key) if files else []
    return [*found, *bank_questions()] if BANK in names else found
