"""A part of the bank of questions as a file, as anyone's own questions are one."""

import random
from pathlib import Path

from trainer.files import write_whole
from trainer.questions.bank import bank_questions
from trainer.questions.writing import question_lines

WITH_ANSWER, UNKNOWABLE = 700, 300
"""Questions of each sort: of the first SmolLM2 knows about two fifths; the others are not asked."""


def ensure_bank_file(path: Path) -> None:
    """Write the questions, each with its key, as JSON lines, unless they are there."""
    if path.exists():
        return
    draws = random.Random(0)
    chosen = []
    for answerable, count in ((True, WITH_ANSWER), (False, UNKNOWABLE)):
        sort = [one for one in bank_questions() if one.answerable is answerable]
        chosen += draws.sample(sort, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, question_lines(chosen))
