"""Recipes that ask a tiny model before they train it, and runs that end while they ask."""

import json
import os
from pathlib import Path
from typing import Any

from tests.nested import nested
from tests.training.runs import recipe_of, train_here
from trainer.evaluate.records import RecordFile
from trainer.recipe import Recipe

NAMES = "abcdefghijklmnop"


def write_questions(folder: Path) -> Path:
    """questions.jsonl: of sixteen the answer has an "e" in it; of four nobody can know it."""
    lines = [
        {"id": name, "question": f"What is {name}?", "verifier": "regex"}
        | {"pattern": "e", "match": "search", "kind": "letter"}
        for name in NAMES
    ]
    lines += [{"id": f"no-{n}", "question": f"Who is {n}?", "answer": None} for n in range(4)]
    return write_lines(folder / "questions.jsonl", lines)


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def records(run: Path, name: str = "refusals") -> dict[str, Any]:
    """What was recorded of each question, by its id: the answers' order is the layout's."""
    lines = (run / name / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    found = [json.loads(line) for line in lines if line]
    assert len({one["id"] for one in found}) == len(found)
    return {one["id"]: one for one in found}


def examples(run: Path, name: str = "refusals") -> list[dict[str, Any]]:
    lines = (run / name / "examples.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def refusing_recipe(run: Path, base: Path, **keys: Any) -> Recipe:
    """`stage: sft` on what the base knows of the questions beside it; keys override, __ for ."""
    asked = {"questions": [str(base.parent / "questions.jsonl")], "tokens": 40, "threshold": 0.25}
    changed = {
        **{"stage": "sft", "init_from": str(base), "steps": 4, "sequence_length": 256},
        "conversations": {"refusals": asked, "validation": 0.2},
        "batch": {"sequences": 4, "micro": 2},
        "optimizer": {"lr": 1e-3},
        "schedule": {"warmup": 0, "name": "constant"},
        **keys,
    }
    whole = recipe_of(run, base.parent).model_dump(mode="json") | {"corpus": None}
    return Recipe.from_keys(nested(whole, changed))


def preferring_recipe(run: Path, base: Path, **keys: Any) -> Recipe:
    """`stage: preference` on what the base says to the questions beside it."""
    asked = {"questions": [str(base.parent / "questions.jsonl")], "tokens": 40, "samples": 4}
    conversations = {"factuality": asked, "validation": 0.2}
    return refusing_recipe(
        run, base, **{"stage": "preference", "conversations": conversations} | keys
    )


def train_all(recipes: list[Recipe]) -> list[tuple[str, str] | None]:
    """On each rank: one run after the other."""
    return [train_here(recipe) for recipe in recipes]


def train_until_asked(recipe: Recipe, questions: int, number: int) -> tuple[str, str] | None:
    """Train, and get the signal `number` when so many questions were answered."""
    add = RecordFile.add
    left = [questions]

    def added(file: RecordFile, record: dict[str, Any]) -> None:
        add(file, record)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), number)

    RecordFile.add = added  # type: ignore[method-assign]  # this rank is a process of its own
    return train_here(recipe)
