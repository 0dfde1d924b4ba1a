"""Files of questions with their keys: JSON Lines, JSON and Parquet, also .gz and .zst.

| key | holds |
|---|---|
| `question`, or `prompt` | the question's text |
| `answer`, or `answers` | the right answer, a text or a number, or several of them; null: nobody can know |
| `verifier` | `answer` (none: this), `exact`, `number`, `choice`, `regex` or `json_schema` |
| `choices` | of choice: a list of texts, or an object of a text for each letter |
| `pattern`, `match`, `ignore_case` | of regex: the pattern; `full` (none: this) or `search` |
| `schema` | of json_schema: a JSON Schema |
| `tolerance` | of number: absolute, or a share of the key as "1%" |
| `case_sensitive` | of exact |
| `rivals`, `form` | of answer: wrong answers of the same kind; name, person, year, number or sign |
| `subject`, `others` | what it asks about, and other things of its kind: where an abstention names those |
| `reason` | why nobody can know, as a sentence |
| `id`, `kind`, `system` | the item's own name; what it asks for; a system prompt |

An item of regex or json_schema needs no `answer`; beside a pattern or a schema it is not read. The
rest may also stand in an object `options`. What nothing reads is counted, and said once.
"""  # noqa: E501 (a table's row is one line)

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, cast

from trainer.conversations.records import Example, read_examples
from trainer.errors import DataError
from trainer.questions.question import Question
from trainer.questions.verifiers import OPTIONS, VERIFIERS, check_fits
from trainer.recipe.questions import VerifierName

_log = logging.getLogger(__name__)

_TEXTS = ("question", "prompt")
_ANSWERS = ("answer", "answers")
_OWN = {*_TEXTS, *_ANSWERS, "id", "system", "verifier", "kind", "reason"}
_KEY_OF = {"regex": "pattern", "json_schema": "schema"}
"""What is the key, of verifiers whose key is no answer."""


def read_questions(
    files: Sequence[str], verifier: VerifierName | None = None, key: str = "questions"
) -> list[Question]:
    """The questions of the files (paths, globs, URLs), in their order.

    `verifier`: of items that name none; `key`: what an error calls the list of files. Raises
    DataError in one line: for files that cannot be read, for an item that is none or does not fit
    its verifier (naming file and line), for two items of one id, or of one text of which one has an
    answer and the other says that nobody can know it, and where there is no item at all.
    """
    found: dict[str, Question] = {}
    keyed: dict[tuple[str | None, str], Question] = {}
    unread: Counter[str] = Counter()
    for example in read_examples(list(files), key=key):
        question = _question(example, verifier or "answer", unread)
        if question.id in found and "id" not in example.record:  # files of one name
            whole = f"{example.place.file}:{example.place.number}"
            question = replace(question, id=whole)
        _refuse_contradiction(
            keyed.setdefault((question.system, question.text), question), question
        )
        if question.id in found:
            raise DataError(
                f"{example.place}: its id {question.id!r} is that of"
                f" {found[question.id].named}: give each its own"
            )
        found[question.id] = question
    if not found:
        raise DataError(f"{key}: {', '.join(files)} holds no question: give a file that does")
    if unread:
        listed = ", ".join(f"{name} ({count:,})" for name, count in unread.most_common(24))
        _log.warning("%s: keys that nothing reads: %s", ", ".join(files), listed)
    return list(found.values())


def _refuse_contradiction(first: Question, question: Question) -> None:
    if first.answerable != question.answerable:
        which = "nobody can know the answer" if first.answerable else "there is an answer"
        raise DataError(
            f"{question.named}: says that {which}, and {first.named} of the same text the opposite:"
            " leave one of them out"
        )


def _question(example: Example, verifier: VerifierName, unread: Counter[str]) -> Question:
    """The question of an object, which fits its verifier; what it has beside is counted."""
    record, place = dict(example.record), example.place
    if isinstance(record.get("options") or {}, Mapping):  # a list is not read, which is said
        record = (record.pop("options", None) or {}) | record
    name = cast(VerifierName, record.get("verifier") or verifier)
    verified = VERIFIERS.get(name) if isinstance(name, str) else None
    reads = frozenset({"subject", "others"}) | (verified.reads if verified else OPTIONS)
    held = {key: value for key, value in record.items() if value is not None and key in reads}
    question = Question(
        id=_named(record, f"{PurePath(place.file).name}:{place.number}", example),
        text=_text(record, example),
        answers=() if held.keys() & {"pattern", "schema"} else _answers(record, example, name),
        system=_string(record, "system", example),
        verifier=name,
        options=held,
        kind=_string(record, "kind", example),
        reason=_string(record, "reason", example),
        place=str(place),
    )
    check_fits(question)
    for key in record.keys() - reads - _OWN:
        note = f", which verifier {name} does not read" if key in OPTIONS else ""
        unread[f"{key}{note}"] += 1
    return question


def _text(record: Mapping[str, Any], example: Example) -> str:
    key = next((name for name in _TEXTS if name in record), None)
    if key is None:
        shown = ", ".join(list(record)[:12]) or "nothing"
        raise DataError(f'{example.place}: has no "question", but {shown}: name its text so')
    return _string(record, key, example) or ""


def _answers(
    record: Mapping[str, Any], example: Example, verifier: VerifierName
) -> tuple[str, ...]:
    """The right answers; () where it says null, or of a table leaves them out."""
    key = next((name for name in _ANSWERS if name in record), None)
    if key is None:
        if example.place.unit == "row":  # Parquet's null
            return ()
        lacks = _KEY_OF.get(verifier, "answer") if isinstance(verifier, str) else "answer"
        of = "" if lacks == "answer" else f" for verifier {verifier}"
        null = "null" if lacks == "answer" else '"answer": null'
        raise DataError(
            f'{example.place}: has no "{lacks}"{of}: give it, or {null} where nobody can know'
        )
    held = record[key]
    if held == []:
        raise DataError(f'{example.place}: "{key}" is an empty list: write null if nobody can know')
    given = held if isinstance(held, list) else [] if held is None else [held]
    for one in given:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise DataError(
                f'{example.place}: "{key}" holds {one!r}, which is neither a text nor a number'
            )
        if isinstance(one, float) and not math.isfinite(one):
            raise DataError(
                f'{example.place}: "{key}" holds {one}, which is no number: give one, or null where'
                " nobody can know"
            )
    return tuple(map(_as_text, given))


def _as_text(answer: str | float) -> str:
    """An answer as it would be written; tables have whole numbers as 4.0 where one is missing."""
    whole = isinstance(answer, float) and answer.is_integer()
    return str(int(answer)) if whole else str(answer)


def _named(record: Mapping[str, Any], otherwise: str, example: Example) -> str:
    held = record.get("id", otherwise)
    if isinstance(held, bool) or not isinstance(held, str | int):
        raise DataError(f'{example.place}: "id" is neither a string nor a whole number')
    if not str(held).strip():
        raise DataError(f'{example.place}: "id" is empty: give it one, or leave the key out')
    return str(held)


def _string(record: Mapping[str, Any], key: str, example: Example) -> str | None:
    held = record.get(key)
    if held is not None and not isinstance(held, str):
        raise DataError(f'{example.place}: "{key}" is no string')
    return held
