"""The data of these tasks, read from the files beside them."""

import json
from pathlib import Path
from typing import Any

import datasets

FOLDER = Path(__file__).parent / "data"


def _rows(name: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _splits(**rows: list[dict[str, Any]]) -> datasets.DatasetDict:
    return datasets.DatasetDict({name: datasets.Dataset.from_list(it) for name, it in rows.items()})


def pairs(**kwargs: Any) -> datasets.DatasetDict:
    rows = _rows("pairs")
    parts = {part: [row for row in rows if row["part"] == part] for part in ("test", "shots")}
    return _splits(**parts)


def short(**kwargs: Any) -> datasets.DatasetDict:
    return _splits(test=_rows("short"))


def places(**kwargs: Any) -> datasets.DatasetDict:
    return _splits(test=_rows("places"))


def blanks(**kwargs: Any) -> datasets.DatasetDict:
    """Two readings of a sentence, of which the one with the likelier ending is meant."""
    rows = [
        (
            "The lamp fell on the glass table, and the {} broke",
            ["table", "floor"],
            0,
            " into pieces.",
        ),
        ("The boy gave the dog a bone because the {} was", ["boy", "dog"], 1, " hungry."),
        ("The key did not fit the door, so the {} was", ["key", "wall"], 0, " the wrong one."),
        ("Water ran over the bath, and the {} was", ["ceiling", "mat"], 1, " wet at once."),
        ("The cat chased the mouse until the {} was", ["cat", "mouse"], 0, " too tired to run."),
    ]
    return _splits(
        test=[
            {"contexts": [text.format(word) for word in words], "gold": gold, "ending": ending}
            for text, words, gold, ending in rows
        ]
    )


def letters(document: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """How long the two texts are that were written, and how many vowels they have."""
    text = "".join(results[0])
    return {"letters": len(text), "vowels": sum(text.count(vowel) for vowel in "aeiou")}
