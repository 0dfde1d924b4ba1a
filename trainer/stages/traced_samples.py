"""Trace a document of a set of the run's own samples back to the question that was asked."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trainer.conversations.columns import ABOUT
from trainer.conversations.sets import EXAMPLES
from trainer.recipe.own_sets import own_folder

_NUMBER = re.compile(r" line (\d+)(?:#counterfactual)?$")


def question_lines(run: Path, name: str, documents: Iterable[str]) -> Iterator[str]:
    """A line for each document of the run's set `name`: which question it is of, and what it asks.

    Nothing for what cannot be read any more: the shards hold what was trained on all the same.
    """
    folder = own_folder(run, name)
    examples = _objects(folder / EXAMPLES)
    samples = {one.get("id"): one for one in _objects(folder / "samples.jsonl")}
    for document in dict.fromkeys(documents):
        found = _NUMBER.search(document)
        if found is None or int(found[1]) > len(examples):
            continue
        about = examples[int(found[1]) - 1].get(ABOUT, {})
        asked = samples.get(about.get("id"))
        if asked is not None:
            text = " ".join(asked["question"].split())
            where = asked["place"] or "the bank, or a corpus"
            origin = about.get("origin", "asked")
            yield f"{document}: {origin}, question {asked['id']} of {where}: {text}"


def _objects(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]
    except (OSError, ValueError):
        return []
