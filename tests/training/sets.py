"""Small sets of conversations and preferences, and recipes that are tuned on them."""

import json
from pathlib import Path
from typing import Any

from tests.training.runs import recipe_of
from trainer.recipe import Recipe

THINGS = ("tea", "a very long word", "rain", "two and two", "nothing at all", "a map")


def write_sets(folder: Path) -> Path:
    """conversations.jsonl, pairs.jsonl and judged.jsonl, of uneven lengths."""
    conversations, pairs, judged = [], [], []
    for number in range(60):
        thing = f"{THINGS[number % len(THINGS)]} {number * 7}"
        answer = f"It is {thing}." * (1 + number % 3)
        turns = [("user", f"What is {number}?"), ("assistant", answer)]
        turns += [("user", "Sure?"), ("assistant", "Yes.")] if number % 4 == 0 else []
        conversations.append({"messages": [{"role": r, "content": c} for r, c in turns]})
        wrong = f"No idea{'!' * (number % 5)}"
        prompt = f"What is {number}?"
        pairs.append({"prompt": prompt, "chosen": answer, "rejected": wrong})
        completion, good = (answer, True) if number % 3 else (wrong, False)
        judged.append({"prompt": prompt, "completion": completion, "label": good})
    for name, lines in (("conversations", conversations), ("pairs", pairs), ("judged", judged)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def tuning_recipe(run: Path, base: Path, data: Path, stage: str, **keys: Any) -> Recipe:
    """`stage` on the set that it reads, from the base's weights; keys override, __ for the dot."""
    name = "conversations" if stage == "sft" else "pairs"
    if keys.get("preference__loss") == "kto":
        name = "judged"
    changed = {
        "stage": stage,
        "init_from": str(base),
        "steps": 5,
        "sequence_length": 96,
        "data__mixture": [{"corpus": str(data / f"{name}.jsonl")}],
        "conversations": {"validation": 0.2},
        "batch": {"sequences": 8, "micro": 4},
        "optimizer": {"lr": 3e-3},
        "schedule": {"warmup": 0, "name": "constant"},
        "evaluate": {"every": 5, "sequences": 4},
        **keys,
    }
    return recipe_of(run, data, **changed)
