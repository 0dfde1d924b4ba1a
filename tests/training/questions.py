"""Questions whose answers a tiny model can learn, and recipes that are reinforced on them."""

import json
from pathlib import Path
from typing import Any

from tests.nested import nested
from tests.training.runs import recipe_of
from trainer.recipe import Recipe

LETTERS = "abcdefgh"
"""Answers match a pattern that about half of what an untrained model writes does."""


def write_questions(folder: Path) -> Path:
    """questions.jsonl: of eight the answer has an "e" in it; of two nobody can know it."""
    lines = [
        {"id": letter, "question": f"What is {letter}?", "verifier": "regex"}
        | {"pattern": "e", "match": "search", "kind": "letter"}
        for letter in LETTERS
    ]
    lines += [{"id": f"no-{n}", "question": f"Who is {n}?", "answer": None} for n in range(2)]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def reinforcing_recipe(run: Path, base: Path, data: Path, **keys: Any) -> Recipe:
    """`stage: reinforce` from the base's weights; keys override, __ for the dot."""
    changed = {
        "stage": "reinforce",
        "init_from": str(base),
        "steps": 4,
        "sequence_length": 96,
        "reinforce": {"questions": [str(data / "questions.jsonl")], "group": 4, "tokens": 12},
        "batch": {"sequences": 16, "micro": 2},
        "optimizer": {"lr": 1e-3},
        "schedule": {"warmup": 0, "name": "constant"},
        **keys,
    }
    keys_of_pretraining = recipe_of(run, data).model_dump(mode="json") | {"corpus": None}
    return Recipe.from_keys(nested(keys_of_pretraining, changed))
