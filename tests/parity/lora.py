"""A LoRA recipe of the tiny model, and adapters that already say something."""

from typing import Any

import torch

from tests.parity.training import Curve, recipe_of, train_steps
from trainer.model.initialize import fill_box
from trainer.model.lora.targets import is_adapter
from trainer.parallel.layout import Layout
from trainer.parallel.sharding import sharded_parameters
from trainer.recipe import Recipe


def lora_recipe(**keys: Any) -> Recipe:
    """The tiny model with adapters of rank 4; nothing that it names is read."""
    fine_tuning = {
        **{"stage": "sft", "init_from": "unused", "data__mixture": [{"corpus": "unused.jsonl"}]},
        **{"lora__rank": 4, "model__padding_token": 5},
    }
    return recipe_of(**fine_tuning | keys)


@torch.no_grad()
def wake(chunks: list[Any], layout: Layout) -> None:
    """Make each B what some training could have made it: with zeros no A would get a gradient.

    Of the embedding's adapter A is what begins as zeros.
    """
    for parameter, sharding in sharded_parameters(chunks):
        zeros = ".A" if sharding.name.startswith("embedding.") else ".B"
        if is_adapter(sharding.name) and sharding.name.endswith(zeros):
            for box in sharding.boxes:
                fill_box(box.of(parameter), box, 0.1, 5)


def lora_steps(recipe: Recipe, steps: int, leave_out: str | None = None) -> Curve:
    """`train_steps` from adapters that are awake."""
    return train_steps(recipe, steps, leave_out, wake)
