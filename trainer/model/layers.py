"""The modules that our ModuleSpec puts into megatron-core's transformer layer."""

from typing import Any

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules
from torch import Tensor

import kernels
from trainer.model.attention import CoreAttention


class RMSNorm(torch.nn.Module):
    """RMSNorm with one weight a channel, whole on every tensor-parallel rank."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(
            torch.ones(hidden_size, dtype=config.params_dtype, device=torch.cuda.current_device())
        )
        # Under sequence parallelism each rank normalises its share of the sequence only.
        self.weight.sums_over_tensor_ranks = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        return kernels.rms_norm(x, self.weight, self.eps)


class HeadNorm(RMSNorm):
    """RMSNorm over each head's channels: queries and keys, whose heads tensor ranks share out."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__(config, hidden_size, eps)
        self.weight.sums_over_tensor_ranks = True  # type: ignore[attr-defined]


class SwiGLU(MLP):
    """megatron-core's MLP with our SwiGLU between its two linears."""

    def forward(
        self, hidden_states: Tensor, per_token_scale: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no bias)."""
        gate_up, _bias = self.linear_fc1(hidden_states)
        output, _bias = self.linear_fc2(kernels.swiglu(gate_up))
        return output, None


def layer_spec(config: TransformerConfig) -> ModuleSpec:
    """One transformer layer: pre-norm, grouped-query attention, SwiGLU, no biases."""
    head_norm = HeadNorm if config.qk_layernorm else IdentityOp
    attention = ModuleSpec(
        module=SelfAttention,
        params={"attn_mask_type": AttnMaskType.causal},
        submodules=SelfAttentionSubmodules(
            linear_qkv=ColumnParallelLinear,
            core_attention=CoreAttention,
            linear_proj=RowParallelLinear,
            q_layernorm=head_norm,
            k_layernorm=head_norm,
        ),
    )
    mlp = ModuleSpec(
        module=SwiGLU,
        params={"ffn_hidden_size": config.ffn_hidden_size},
        submodules=MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear),
    )
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=RMSNorm,
            self_attention=attention,
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=RMSNorm,
            mlp=mlp,
            mlp_bda=get_bias_dropout_add,
        ),
    )
