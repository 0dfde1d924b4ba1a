"""The runs that are broken: a tiny model, at layouts that fail in different ways."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.recipe import Recipe

STEPS = 10
EVERY = 3
_WORDS = ("the", "model", "reads", "a", "text", "and", "learns", "which", "word", "comes", "next")


@dataclass(frozen=True)
class RunLayout:
    """A kind of run: how many ranks, and the keys that differ from the plain tiny one.

    `local`: whether its checkpoints go by way of the machine's own disk.
    """

    name: str
    ranks: int
    keys: dict[str, Any]
    tuned: bool = False
    local: bool = False


LAYOUTS = (
    RunLayout("PP2xDP2", 4, {"parallel": {"pipeline": 2}, "zero": {"stage": 1}}),
    RunLayout("ZeRO-3", 2, {"zero": {"stage": 3}}, local=True),
    RunLayout("TP2", 2, {"parallel": {"tensor": 2}, "zero": {"stage": 0}}),
    RunLayout("SFT", 2, {"zero": {"stage": 2}}, tuned=True),
)


def write_sources(folder: Path) -> None:
    """Some hundred short documents, and some questions with answers."""
    lines = []
    for number in range(400):
        words = [_WORDS[(number * k + k * k) % len(_WORDS)] for k in range(20 + number % 60)]
        text = f"{number} {' '.join(words)} {number * 7}"
        lines.append(json.dumps({"id": f"d{number}", "text": text}))
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = [
        {"prompt": f"What comes after {number}?", "completion": f"{number + 1} comes next."}
        for number in range(300)
    ]
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")


def base_recipe(sources: Path) -> Recipe:
    """The run that the tuned ones start from: one step, on one rank."""
    return Recipe.from_keys(_plain(sources) | {"run": str(sources / "base"), "steps": 1})


def recipe_of(
    layout: RunLayout, run: Path, sources: Path, recovery: dict[str, Any] | None = None
) -> Recipe:
    """The recipe of a round; `recovery`: keys of that section."""
    keys = _plain(sources) | {"run": str(run), "recovery": recovery or {}}
    keys |= layout.keys
    if layout.local:
        keys["checkpoint"] = keys["checkpoint"] | {"local": str(run.with_name("disk"))}
    if layout.tuned:
        del keys["corpus"]
        keys |= {
            "stage": "sft",
            "init_from": str(sources / "base"),
            "data": {"mixture": [{"corpus": str(sources / "asked.jsonl")}], "workers": 1},
            "conversations": {"validation": 0.1},
        }
    return Recipe.from_keys(keys)


def _plain(sources: Path) -> dict[str, Any]:
    return {
        "device": "cpu",
        "steps": STEPS,
        "sequence_length": 32,
        "model": {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 384},
        "batch": {"sequences": 8, "micro": 2},
        "optimizer": {"lr": 1e-2},
        "schedule": {"warmup": 2},
        "data": {"workers": 1},
        "checkpoint": {"every": EVERY},
        "evaluate": {
            "every": 4,
            "sequences": 8,
            "sample_every": 4,
            "prompts": ["the model"],
            "sample_tokens": 4,
        },
        "observe": {"tensorboard": False},
        "corpus": {
            "source": "text",
            "files": [str(sources / "text.jsonl")],
            "path": str(sources / "shards"),
            "vocab": 384,
            "validation": 0.1,
            "minimum_characters": 1,
            "near_duplicates": None,
            "exact_duplicates": False,
            "rules": None,
            "shard_tokens": 4000,
            "workers": 1,
        },
    }
