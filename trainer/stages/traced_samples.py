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
    examples = _objects(own_folder(run, name) / EXAMPLES)
    for document in dict.fromkeys(documents):
        found = _NUMBER.search(document)
        if found is None or int(found[1]) > len(examples):
            continue
        example = examples[int(found[1]) - 1]
        about = example[ABOUT]
        where = about.get("place", "the bank, or a corpus")
        text = " ".join(_asked(example).split())
        yield f"{document}: {about['origin']}, question {about['id']} of {where}: {text}"


def _asked(example: dict[str, Any]) -> str:
    """The last user's turn of a conversation, or of a pair's prompt."""
    turns = example.get("prompt") or example["messages"]
    return str([turn["content"] for turn in turns if turn["role"] == "user"][-1])


def _objects(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]
    except (OSError, ValueError):
        return []
