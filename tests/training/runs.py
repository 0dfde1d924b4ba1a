"""Real runs of a tiny model on a tiny corpus, for the tests of the loop."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from tests.nested import nested
from trainer.errors import LyceumError
from trainer.loop import train
from trainer.observe import read_metrics
from trainer.recipe import Recipe

WORDS = ("the", "model", "reads", "a", "text", "and", "learns", "which", "word", "comes", "next")


def write_text(folder: Path) -> Path:
    """Some hundred short, different documents as JSON lines."""
    path = folder / "text.jsonl"
    lines = []
    for number in range(400):
        words = [WORDS[(number * k + k * k) % len(WORDS)] for k in range(20 + number % 60)]
        lines.append(f'{{"id": "d{number}", "text": "{number} {" ".join(words)} {number * 7}"}}')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def recipe_of(run: Path, corpus: Path, **keys: Any) -> Recipe:
    """A tiny model on the corpus of `write_text`; keys override, with __ for the dot."""
    tree: dict[str, Any] = {
        "run": str(run),
        "device": "cpu",
        "steps": 8,
        "sequence_length": 32,
        "model": {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 384},
        "batch": {"sequences": 8, "micro": 2},
        "optimizer": {"lr": 1e-2},
        "schedule": {"warmup": 2},
        "data": {"workers": 0},
        "zero": {"stage": 0},
        "observe": {"tensorboard": False},
        "corpus": {
            "source": "text",
            "files": [str(corpus / "text.jsonl")],
            "path": str(corpus / "shards"),
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
    return Recipe.from_keys(nested(tree, keys))


def train_here(recipe: Recipe, force: bool = False) -> tuple[str, str] | None:
    """Train on this rank; the name and the line of the error that ended it, if one did."""
    try:
        train(recipe, force=force)
    except LyceumError as error:
        return type(error).__name__, str(error)
    return None


def train_until(recipe: Recipe, step: int, number: int) -> tuple[str, str] | None:
    """Train, and send this rank the signal `number` once metrics.jsonl holds `step`."""
    metrics = Path(recipe.run)

    def watch() -> None:
        while len(read_metrics(metrics)) < step:
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    if number == signal.SIGKILL or os.environ["RANK"] == "0":
        threading.Thread(target=watch, daemon=True).start()
    return train_here(recipe)


def losses(recipe: Recipe) -> list[float]:
    """The loss of each step, from metrics.jsonl; no step may lack or come twice."""
    records = read_metrics(Path(recipe.run))
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records]
