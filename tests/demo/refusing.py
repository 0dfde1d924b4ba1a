"""A tiny model in the place of the demo's real one."""

import json
from pathlib import Path
from typing import Any

from trainer.demo.recipes import refusals_recipe
from trainer.demo.second_act import RefusalTuning
from trainer.questions.reading import read_questions
from trainer.recipe import Recipe


def small_refusals(folder: Path, base: Path) -> RefusalTuning:
    """The second act from the run `base`, which is right with any text that has an "e" in it."""
    right = {"verifier": "regex", "pattern": "e", "match": "search"}
    known: list[dict[str, Any]] = [
        {"id": f"known {number}", "question": f"What is bird {number}?", **right}
        for number in range(12)
    ]
    unknown = [{"id": name, "question": f"Who is {name}?", "answer": None} for name in "abc"]
    write_lines(folder / "run-bank.jsonl", [*known, *unknown])
    write_lines(folder / "asked.jsonl", [known[0], unknown[0]])
    recipe = refusals_recipe(folder / "run", base.resolve())
    keys = recipe.model_dump(mode="json", exclude_unset=True)
    keys |= {"steps": 3, "sequence_length": 160, "checkpoint": {"every": 3}}
    keys |= {"batch": {"sequences": 4, "micro": 2}, "evaluate": {}}
    keys["conversations"]["refusals"] |= {"samples": 4, "threshold": 0.25, "temperature": 1.0}
    return RefusalTuning(Recipe.from_keys(keys), read_questions([str(folder / "asked.jsonl")]))


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
