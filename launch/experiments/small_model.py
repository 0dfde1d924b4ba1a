"""The small model of experiments on data: 0.4 million parameters, trained in a minute or two."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.local import find_recipe
from trainer.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class SmallModel:
    """A shape, its tokenizer's size, and how long it is trained: steps of 2 sequences of 256."""

    steps: int = 700
    hidden: int = 96
    layers: int = 4
    vocabulary: int = 512


def small_recipe(
    run: Path,
    documents: Path,
    corpus: Path,
    controls: Mapping[str, Any],
    seed: int,
    size: SmallModel,
    tokenizer: Path | None = None,
) -> Recipe:
    """The recipe of one run on `documents`, of which `corpus` is or will be built by `controls`.

    `tokenizer`: another corpus's, so that models on both read the same tokens; None: its own.
    """
    keys = load_recipe(find_recipe("demo")).model_dump(mode="json")
    keys |= {
        "run": str(run),
        "seed": seed,
        "steps": size.steps,
        "device": "cpu",
        "tokenizer": None if tokenizer is None else str(tokenizer),
    }
    keys["model"] |= {
        "layers": size.layers,
        "hidden": size.hidden,
        "ffn": size.hidden * 5 // 2,
        "vocab": size.vocabulary,
    }
    keys["batch"] = {"sequences": 2, "micro": 2}
    keys["schedule"] |= {"warmup": size.steps // 25, "decay": size.steps // 2}
    keys["corpus"] = {
        "source": "text",
        "files": [str(documents)],
        "path": str(corpus),
        "vocab": size.vocabulary,
        "workers": 1,
        **controls,
    }
    keys["evaluate"] = {"every": 0}
    keys["checkpoint"] = {"every": 0, "save_final": True}
    keys["observe"] = {"tensorboard": False}
    return Recipe.from_keys(keys)
