"""Peer: transformers' LlamaForCausalLM with Liger-Kernel's operators (arXiv:2410.10989)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from trainer.bench.bare import IGNORE
from trainer.bench.peers.attention import fastest_sdpa
from trainer.bench.peers.peer import Built, Peer
from trainer.recipe import Recipe


def build(recipe: Recipe, device: torch.device) -> Built:
    """Random weights; Liger's rotary positions, RMSNorm, SwiGLU and fused linear cross-entropy.

    The loss is called as it is rather than patched into the model: a sum, without shifted labels.
    """
    from liger_kernel.transformers import (
        LigerFusedLinearCrossEntropyLoss,
        apply_liger_kernel_to_llama,
    )

    apply_liger_kernel_to_llama(fused_linear_cross_entropy=False)
    model = llama(recipe, device)
    fused = LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORE, reduction="sum")
    order, chosen = fastest_sdpa(recipe, device)

    def loss_sum(tokens: Tensor, labels: Tensor) -> Tensor:
        with sdpa_kernel(order, set_priority=True):
            hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        loss: Tensor = fused(model.lm_head.weight, hidden.flatten(0, 1), labels.flatten())
        return loss

    return Built(model, loss_sum, {"attention": chosen})


def llama(recipe: Recipe, device: torch.device) -> Any:
    """Transformers' model of the recipe's shape in fp32, in training mode, attention by SDPA."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = recipe.model
    torch.manual_seed(recipe.seed)
    assert model.vocab is not None
    config = LlamaConfig(
        vocab_size=model.vocab,
        hidden_size=model.hidden,
        intermediate_size=model.ffn,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.query_groups,
        head_dim=model.head_width,
        rms_norm_eps=model.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
        max_position_embeddings=recipe.sequence_length,
        tie_word_embeddings=model.tied_embeddings,
        initializer_range=model.init_std,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )
    with device:
        return LlamaForCausalLM(config).float().train()


PEER = Peer(
    name="transformers-liger",
    given={
        "attention": "SDPA, causal over the whole row",
        "compile": "none: Liger's Triton kernels for rope, RMSNorm, SwiGLU",
        "recompute": "none",
        "loss": "Liger's fused linear cross-entropy in chunks: no logits of all, but a wait for the"
        " device in each, and the head's gradient summed over chunks in the weights' type",
    },
    build=build,
    needs="liger_kernel",
    needs_gpu=True,
    plain_llama=True,
)
