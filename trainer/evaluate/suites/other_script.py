"""Answers in another script than Latin, of which the judge, reading English, knows names at most.

A model that declines in Chinese is counted as one that answers wrongly, so suites that judge
answers count such answers beside their figures. A right name in Latin letters among them counts as
anywhere. Other languages in Latin letters are not told from English.
"""

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.evaluate.suites.suite import FigureKind, ItemRecord

if TYPE_CHECKING:
    from trainer.evaluate.intervals import Figure

OTHER_SCRIPT = "other_script"
"""The name of the figure."""
ENGLISH_ALONE = "answers are judged, and refusals recognised, in English alone"


def in_another_script(text: str) -> bool:
    """Whether most letters of a text are of another script than Latin."""
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return latin * 2 < len(letters)


def _row(record: ItemRecord) -> list[float] | None:
    return [float(in_another_script(record["answer"]))] if "answer" in record else None


FIGURES = {
    OTHER_SCRIPT: FigureKind("answers mostly in another script than Latin, read for names", _row)
}


def remarks(found: "Mapping[str, Figure]") -> list[str]:
    """What forbids to read the figures as they seem, where answers are not in Latin letters."""
    figure = found.get(OTHER_SCRIPT)
    if figure is None or not figure.value:
        return []
    answers = round(figure.value * figure.items)
    return [
        f"{answers:,} of {figure.items:,} answers are in another script than Latin and may count"
        f" as wrong, refusals among them: {ENGLISH_ALONE}"
    ]
