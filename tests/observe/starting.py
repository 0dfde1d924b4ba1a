"""The start of a run, as callbacks are told it."""

from pathlib import Path
from typing import Any

import torch

from trainer.observe import RunStart
from trainer.recipe import Recipe

KEYS: dict[str, Any] = {
    "run": "run",
    "steps": 10,
    "sequence_length": 32,
    "model": {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 256},
    "batch": {"sequences": 8, "micro": 2},
    "optimizer": {"lr": 1e-3},
    "data": {"mixture": [{"corpus": "corpus"}]},
}


def recipe(**changes: Any) -> Recipe:
    """A small recipe with some top-level keys changed."""
    return Recipe.from_keys(KEYS | changes)


def start(folder: Path, first_step: int = 1, rank: int = 0, **changes: Any) -> RunStart:
    """A run on two CPU ranks that is about to make `first_step`."""
    return RunStart(folder, recipe(**changes), first_step, rank, 2, torch.device("cpu"))
