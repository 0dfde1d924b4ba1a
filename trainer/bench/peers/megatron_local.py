"""Peer: megatron-core's GPTModel with the layers that it ships itself, no TransformerEngine."""

import torch
from torch import Tensor

from trainer.bench.bare import IGNORE
from trainer.bench.peers.peer import Built, Peer
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe

_STATE_BYTES = 18  # bf16 weight; fp32 master, gradient and two moments
_SCORE_BYTES = 6  # kept a score: fp32 out of the softmax, bf16 into the product


def build(recipe: Recipe, device: torch.device) -> Built:
    """Joins a world of one rank; the weights are drawn as ours are, and so are the same."""
    from trainer.model.initialize import initialize_weights
    from trainer.parallel.join import create_layout
    from trainer.parallel.sharding import describe_shardings

    recompute = chosen_recompute(recipe, memory_of(device))
    recipe = recipe.replaced({"recompute": recompute, "offload": "none"})
    layout = create_layout(recipe)
    from trainer.bench.peers.stock import stock_losses, stock_model

    model = stock_model(recipe, layout)
    describe_shardings([model], layout)
    initialize_weights(model, recipe)

    def loss_sum(tokens: Tensor, labels: Tensor) -> Tensor:
        ignored = labels == IGNORE
        losses = stock_losses(model, tokens, labels.masked_fill(ignored, 0))
        return losses.masked_fill(ignored, 0.0).sum()

    return Built(model, loss_sum, {"recompute": recompute})


def chosen_recompute(recipe: Recipe, memory_bytes: float) -> str:
    """Attention's scores once more in backward, where those of all layers would not fit."""
    model = recipe.model
    assert model.vocab is not None
    scores = model.layers * recipe.batch.micro * model.heads * recipe.sequence_length**2
    state = _STATE_BYTES * parameter_count(model, model.vocab)["total"]
    fits = state + _SCORE_BYTES * scores < 0.8 * memory_bytes
    return "none" if fits else "attention"


def memory_of(device: torch.device) -> float:
    """Bytes of the device; without end where nothing counts them."""
    if device.type != "cuda":
        return float("inf")
    return float(torch.cuda.get_device_properties(device).total_memory)


PEER = Peer(
    name="megatron-local",
    given={
        "attention": "megatron-core's DotProductAttention, which keeps all scores",
        "compile": "megatron-core's own jit_fuser (SwiGLU, bias and residual, cross-entropy)",
        "recompute": "none",
        "loss": "megatron-core's vocabulary cross-entropy, in bf16 its fused one; logits of a"
        " micro-batch",
    },
    build=build,
    needs="megatron",
    plain_llama=True,
)
