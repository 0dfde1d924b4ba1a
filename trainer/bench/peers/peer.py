"""What a peer is: a model of the recipe's shape, built as its own documentation says."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from trainer.bench.bare import beyond_bare
from trainer.recipe import Recipe

LossSum = Callable[[Tensor, Tensor], Tensor]
"""(tokens, labels), int64 [micro-batch, sequence], to the sum of their losses in nats, fp32 []."""


@dataclass(frozen=True)
class Built:
    """A peer's model with fp32 weights on the device, and how to get a loss out of it.

    `given` completes the peer's by what was chosen here by measuring.
    """

    model: nn.Module
    loss_sum: LossSum
    given: dict[str, str]


@dataclass(frozen=True)
class Peer:
    """One peer: its name, what it was given in words, and how it is built.

    `needs`: a package; `needs_gpu`: whether its kernels run on CUDA alone; `plain_llama`, `untied`:
    which recipes it has no model for.
    """

    name: str
    given: dict[str, str]
    build: Callable[[Recipe, torch.device], Built]
    needs: str | None = None
    needs_gpu: bool = False
    plain_llama: bool = False
    untied: bool = False

    def why_not(self, recipe: Recipe, device: torch.device) -> str:
        """Why it cannot run this recipe here, in one line; empty where nothing is known of it."""
        model = recipe.model
        if self.needs is not None and find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        if self.needs_gpu and device.type != "cuda":
            return f"its kernels need CUDA, and this is {device.type}"
        if self.plain_llama and (model.qk_norm or model.qkv_bias or model.rope_scaling):
            return "it is given plain Llama only: no qk_norm, qkv_bias or rope_scaling"
        if beyond := beyond_bare(model):
            return f"it has no model of {', '.join(beyond)}"
        if not recipe.loss.plain:
            return "it has the plain cross entropy only, without the keys of loss"
        if self.untied and (
            model.tied_embeddings or model.head_width * model.heads != model.hidden
        ):
            return "it has no tied embeddings and no head_size but hidden / heads"
        return ""
