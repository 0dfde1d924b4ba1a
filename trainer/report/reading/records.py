"""The records of a suite's items as a report reads them: verdicts, confidences, answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.parsing import read_json

MOST_RECORDS = 20_000
"""Records of a suite that are read; further ones are left out."""
LONGEST_TEXT = 600
"""Characters of a text that a page shows."""
_LONGEST_LINE = 1 << 22
VERDICTS = ("right", "declined", "wrong")
_ALSO = {"abstained": "declined"}


@dataclass(frozen=True)
class JudgedAnswer:
    """A question of a suite and what a model answered.

    `answerable`: whether there is an answer; True where the suite asks of nothing else; `verdict`:
    one of VERDICTS; `confidence`: the model's own; `part`: of the suite.
    """

    question: str
    answerable: bool
    answer: str
    verdict: str
    confidence: float | None
    part: str


def judged_answers(folder: Path, suite: str) -> dict[str, JudgedAnswer]:
    """The judged answers in a folder of records, by the item's id; {} where there are none."""
    name = suite.replace("%", "%25").replace("/", "%2F")
    found: dict[str, JudgedAnswer] = {}
    for record in records_in(folder / f"{name}.jsonl"):
        one = _judged(record)
        if one is not None:
            found[str(record.get("id"))] = one
    return found


def records_in(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects in a file, a line each; none without the file, and no damaged ones."""
    try:
        with path.open("rb") as file:
            for _ in range(MOST_RECORDS):
                line = file.readline(_LONGEST_LINE)
                if not line:
                    return
                try:
                    record = read_json(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield record
    except OSError:
        return


def shortened_text(text: str, most: int = LONGEST_TEXT) -> str:
    """A text as a page shows it: of a long one the beginning, which is said."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"


def _judged(record: Mapping[str, Any]) -> JudgedAnswer | None:
    question, verdict = record.get("question"), record.get("verdict", record.get("outcome"))
    verdict = _ALSO.get(str(verdict), verdict)
    if not isinstance(question, str) or verdict not in VERDICTS:
        return None
    confidence = record.get("confidence")
    answer = record.get("answer")
    if not isinstance(answer, str):
        options, choice = record.get("options"), record.get("choice")
        if not (isinstance(options, list) and type(choice) is int and 0 <= choice < len(options)):
            return None
        answer = str(options[choice])
    return JudgedAnswer(
        question=shortened_text(question),
        answerable=record.get("exists", record.get("answerable")) is not False,
        answer=shortened_text(answer),
        verdict=verdict,
        confidence=float(confidence) if isinstance(confidence, int | float) else None,
        part=str(record.get("part", "")),
    )
