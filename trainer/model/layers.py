"""The modules that our ModuleSpec puts into megatron-core's transformer layer."""

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear, checkpoint
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
from trainer.model.sequence import SequenceLayout
from trainer.recipe.observe import KernelsSection


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

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """[..., hidden] -> [..., hidden]; with `residual`, (norm of the sum, the sum).

        One method for both, as ZeRO-3 gives a rank the whole weight only in here.
        """
        if residual is not None:
            return kernels.add_rms_norm(x, residual, self.weight, self.eps)
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


class Attention(SelfAttention):
    """megatron-core's linears around our core attention, which reads their output in place."""

    def forward(
        self, hidden_states: Tensor, packed_seq_params: SequenceLayout, **_: Any
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no bias)."""
        projected, _bias = self.linear_qkv(hidden_states)
        heads, groups = self.num_attention_heads_per_partition, self.num_query_groups_per_partition
        grouped = projected.unflatten(-1, (groups, -1, self.hidden_size_per_attention_head))
        # A group's query heads, then its key and its value: views, as kernels take any strides.
        query, key, value = grouped.split([heads // groups, 1, 1], dim=-2)
        query, key = self.q_layernorm(query), self.k_layernorm(key).squeeze(-2)
        arguments = query, key, value.squeeze(-2)
        if self.checkpoint_core_attention and self.training:
            attended = self._checkpointed_attention_forward(
                *arguments, None, packed_seq_params=packed_seq_params
            )
        else:
            attended = self.core_attention(*arguments, packed_seq_params=packed_seq_params)
        output, _bias = self.linear_proj(attended)
        return output, None


class Layer(TransformerLayer):
    """One pre-norm block, with the residual add before the second norm fused into it."""

    def forward(
        self,
        hidden_states: Tensor,
        packed_seq_params: SequenceLayout | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no context)."""
        normalised = self.input_layernorm(hidden_states)
        attended, _bias = self.self_attention(normalised, packed_seq_params=packed_seq_params)
        normalised, residual = self.pre_mlp_layernorm(attended, hidden_states)
        if self.recompute_mlp and self.training:
            output, _bias = checkpoint(self.mlp, False, normalised)
        else:
            output, _bias = self.mlp(normalised)
        return residual + output, None


def _as_it_is(_name: str, plain: type) -> type | ModuleSpec:
    return plain


def layer_spec(
    config: TransformerConfig,
    kernels: KernelsSection,
    linear: Callable[[str, type], type | ModuleSpec] = _as_it_is,
) -> ModuleSpec:
    """One transformer layer: pre-norm, grouped-query attention, SwiGLU.

    `linear` says what stands in the place of a linear of this name below the layer.
    """
    head_norm = HeadNorm if config.qk_layernorm else IdentityOp
    core_attention = ModuleSpec(
        module=CoreAttention,
        params={"backend": kernels.attention, "deterministic": kernels.deterministic},
    )
    attention = ModuleSpec(
        module=Attention,
        params={"attn_mask_type": AttnMaskType.causal},
        submodules=SelfAttentionSubmodules(
            linear_qkv=linear("self_attention.linear_qkv", ColumnParallelLinear),
            core_attention=core_attention,
            linear_proj=linear("self_attention.linear_proj", RowParallelLinear),
            q_layernorm=head_norm,
            k_layernorm=head_norm,
        ),
    )
    mlp = ModuleSpec(
        module=SwiGLU,
        params={"ffn_hidden_size": config.ffn_hidden_size},
        submodules=MLPSubmodules(
            linear_fc1=linear("mlp.linear_fc1", ColumnParallelLinear),
            linear_fc2=linear("mlp.linear_fc2", RowParallelLinear),
        ),
    )
    return ModuleSpec(
        module=Layer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=RMSNorm,
            self_attention=attention,
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=RMSNorm,
            mlp=mlp,
            mlp_bda=get_bias_dropout_add,
        ),
    )
