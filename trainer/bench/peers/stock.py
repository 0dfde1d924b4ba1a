"""megatron-core's GPTModel as it ships it, for benchmarks: local layers, nothing of ours."""

from dataclasses import replace
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.torch_norm import WrappedTorchNorm
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from torch import Tensor

from trainer.parallel.layout import Layout
from trainer.parallel.megatron import transformer_config
from trainer.recipe import Recipe


def stock_model(recipe: Recipe, layout: Layout) -> Any:
    """A whole GPTModel on one rank, in fp32, its weights not initialised.

    Every fusion that megatron-core does without apex or TransformerEngine is on, where it loses no
    precision.
    """
    model = recipe.model
    config = replace(
        transformer_config(recipe, layout),
        params_dtype=torch.float32,
        bias_activation_fusion=True,
        bias_dropout_fusion=True,
        # The fused one rounds its gradient to bf16, whatever the weights are.
        cross_entropy_loss_fusion=recipe.precision == "bf16",
        persist_layer_norm=False,
    )
    layer = get_gpt_layer_local_spec(qk_layernorm=model.qk_norm, normalization="RMSNorm")
    spec = TransformerBlockSubmodules(
        layer_specs=[layer] * model.layers, layer_norm=WrappedTorchNorm
    )
    built = GPTModel(
        config,
        spec,
        vocab_size=model.vocab,
        max_sequence_length=recipe.sequence_length,
        position_embedding_type="rope",
        rotary_base=model.rope_theta,
        share_embeddings_and_output_weights=model.tied_embeddings,
    )
    return built.to(layout.device)


def stock_losses(model: Any, tokens: Tensor, labels: Tensor) -> Tensor:
    """Nats a token, fp32 [rows, sequence], each row one document; int64 arguments alike."""
    rows, length = tokens.shape
    place = torch.arange(length, device=tokens.device)
    hidden = (place[None, :] > place[:, None])[None, None]
    losses: Tensor = model(tokens, place.expand(rows, -1), hidden, labels=labels)
    return losses
