"""Questions with their keys as text that `reading.py` reads."""

import json
from collections.abc import Sequence

from trainer.questions.question import Question


def question_lines(questions: Sequence[Question]) -> str:
    """The questions as JSON lines."""
    lines = []
    for one in questions:
        line = {"id": one.id, "question": one.text, "answers": list(one.answers) or None}
        about = {"system": one.system, "reason": one.reason, "kind": one.kind}
        line["verifier"] = one.verifier
        line |= {key: held for key, held in about.items() if held is not None}
        line |= one.options
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)
