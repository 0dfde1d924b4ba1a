"""Peer: torchtitan's Llama 3 (arXiv:2410.06511), compiled a block at a time as its trainer does.

Its trainer wants a job of its own; the model and the loss are used as they are.
"""

import torch
from torch import Tensor

from trainer.bench.peers.peer import Built, Peer
from trainer.recipe import Recipe

_TITANS_WIDTH = 8 / 3  # its feed-forward is two thirds of 4 x hidden, times a factor


def build(recipe: Recipe, device: torch.device) -> Built:
    """Its blocks and its loss are compiled; its SDPA prefers cuDNN by itself."""
    from torchtitan.components.loss import cross_entropy_loss
    from torchtitan.models.llama3 import Transformer, TransformerModelArgs
    from torchtitan.models.llama3.model.args import RoPEScalingArgs

    shape = recipe.model
    args = TransformerModelArgs(
        dim=shape.hidden,
        n_layers=shape.layers,
        n_heads=shape.heads,
        n_kv_heads=shape.query_groups,
        vocab_size=shape.vocab,
        multiple_of=1,
        # It rounds down twice: the half makes the result ffn exactly.
        ffn_dim_multiplier=(shape.ffn + 0.5) / int(_TITANS_WIDTH * shape.hidden),
        norm_eps=shape.norm_eps,
        rope_theta=shape.rope_theta,
        rope_scaling_args=RoPEScalingArgs(scaling_factor=1.0),
        max_seq_len=recipe.sequence_length,
    )
    torch.manual_seed(recipe.seed)
    with device, torch.no_grad():
        model = Transformer(args)
        model.init_weights()
    for block in model.layers.values():
        block.compile(fullgraph=True)
    loss = torch.compile(cross_entropy_loss)

    def loss_sum(tokens: Tensor, labels: Tensor) -> Tensor:
        summed: Tensor = loss(model(tokens), labels)
        return summed

    return Built(model, loss_sum, {})


PEER = Peer(
    name="torchtitan",
    given={
        "attention": "SDPA, causal over the whole row, its own order: cudnn, flash",
        "compile": "torch.compile, default mode: each block, and the loss",
        "recompute": "none",
        "loss": "its own, compiled; logits of a micro-batch",
    },
    build=build,
    needs="torchtitan",
    plain_llama=True,
    untied=True,
)
