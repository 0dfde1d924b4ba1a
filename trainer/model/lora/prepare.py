"""What becomes of a built model under LoRA: the adapters' first weights, and a frozen base."""

import math
from typing import Any

import torch
from torch import Tensor

from trainer.model.initialize import fill_box
from trainer.model.logical import logical_parameters
from trainer.model.lora.targets import is_adapter
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe


@torch.no_grad()
def initialize_adapters(chunk: Any, recipe: Recipe, layout: Layout) -> None:
    """B is zero, A uniform within 1 / sqrt(inputs) (Kaiming's rule as PEFT applies it), in place.

    Each A follows from the recipe's seed, `lora.seed` and its global name, at every layout.
    """
    assert recipe.lora is not None
    seed = f"{recipe.seed}/lora/{recipe.lora.seed}"
    for logical in logical_parameters([chunk], layout):
        if not is_adapter(logical.name) or logical.parameter.is_meta:
            continue
        if logical.name.endswith(".B"):
            logical.parameter.zero_()
            continue
        for box in logical.boxes:
            bound = 1.0 / math.sqrt(box.global_shape[1])
            fill_box(box.of(logical.parameter), box, bound, seed, _uniform)


def freeze_base(chunk: Any) -> None:
    """Let only the adapters learn.

    The embeddings' output still asks for a gradient, of which nothing is kept: a recomputed block
    and a pipeline stage without adapters pass one on only if their input asks for it.
    """
    for name, parameter in chunk.named_parameters():
        parameter.requires_grad_(is_adapter(name))
    if chunk.pre_process:
        chunk.embedding.register_forward_hook(_ask_for_gradient)


def _ask_for_gradient(_module: Any, _inputs: Any, embedded: Tensor) -> None:
    if torch.is_grad_enabled():
        embedded.requires_grad_()


def _uniform(*shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Uniform numbers within [-1, 1)."""
    return torch.rand(*shape, generator=generator, device=device) * 2.0 - 1.0
