"""Peer: the bare model, compiled: what PyTorch gives to whoever asks it politely."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from trainer.bench.bare import IGNORE, bare_model
from trainer.bench.peers.attention import fastest_sdpa
from trainer.bench.peers.peer import Built, Peer
from trainer.recipe import Recipe


def build(recipe: Recipe, device: torch.device) -> Built:
    """Each block is compiled, and the last norm, the projection and the loss as one function."""
    assert recipe.model.vocab is not None
    model = bare_model(recipe, recipe.model.vocab, device)
    for layer in model.layers:
        layer.compile(fullgraph=True, dynamic=False)
    head_loss = torch.compile(_head_loss, fullgraph=True, dynamic=False)
    order, chosen = fastest_sdpa(recipe, device)

    def loss_sum(tokens: Tensor, labels: Tensor) -> Tensor:
        with sdpa_kernel(order, set_priority=True):
            hidden = model.hidden_states(tokens)
            loss: Tensor = head_loss(model.norm, model.lm_head, hidden, labels)
        return loss

    return Built(model, loss_sum, {"attention": chosen})


def _head_loss(norm: nn.Module, head: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    logits = head(norm(hidden)).float().flatten(0, 1)
    return F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE, reduction="sum")


PEER = Peer(
    name="bare-compiled",
    given={
        "attention": "SDPA, causal over the whole row",
        "compile": "torch.compile, default mode: each block, and norm + head + loss",
        "recompute": "none",
        "loss": "logits of a micro-batch, the rest fused by the compiler",
    },
    build=build,
)
