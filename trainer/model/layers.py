"""The modules that our ModuleSpec puts into megatron-core's transformer layer."""

from collections.abc import Callable
from functools import partial
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
from trainer.model.offload import Offload
from trainer.model.recompute import Again, InPlace, Keeper, made_again
from trainer.model.sequence import SequenceLayout
from trainer.recipe.kernels import KernelsSection

IN_PLACE = InPlace()


class RMSNorm(torch.nn.Module):
    """RMSNorm with one weight a channel, whole on every tensor-parallel rank."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(
            torch.ones(hidden_size, dtype=config.params_dtype, device=torch.cuda.current_device())
        )
        # Under sequence parallelism each rank normalises its part of the sequence only.
        self.partial_gradients = ("weight",) if config.sequence_parallel else ()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """[..., hidden] -> [..., hidden]; with `residual`, (norm of the sum, the sum).

        One method for both, as ZeRO-3 gives a rank the whole weight only in here.
        """
        if residual is not None:
            return kernels.add_rms_norm(x, residual, self.weight, self.eps)
        return kernels.rms_norm(x, self.weight, self.eps)


class RemadeNorm(RMSNorm):
    """RMSNorm whose result backward makes again: it remembers the weight that it was made with."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """As RMSNorm's."""
        weight = self.weight.detach()
        if weight.untyped_storage().nbytes() != weight.nbytes:
            weight = weight.clone()  # a slice of what ZeRO-3 gathered, which would all be kept
        self._used = weight
        return super().forward(x, residual)

    def again(self, x: Tensor) -> Again:
        """How the newest result is made from its own input, the residual sum included."""
        return Again(x, partial(kernels.rms_norm, weight=self._used, eps=self.eps))


class HeadNorm(RMSNorm):
    """RMSNorm over each head's channels: queries and keys, whose heads tensor ranks share out."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__(config, hidden_size, eps)
        self.partial_gradients = ("weight",)


class SwiGLU(MLP):
    """megatron-core's MLP with our SwiGLU between its two linears.

    `remade`: whether backward makes the gated product again.
    """

    def __init__(self, *arguments: Any, remade: bool = False, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self.remade = remade

    def forward(
        self,
        hidden_states: Tensor,
        per_token_scale: Tensor | None = None,
        again: Again | None = None,
        keeper: Keeper = IN_PLACE,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no bias)."""
        with made_again(hidden_states, again, self.linear_fc1, keeper):
            gate_up, _bias = self.linear_fc1(hidden_states)
        product = kernels.swiglu(gate_up)
        remade = Again(gate_up, kernels.swiglu) if self.remade else None
        with made_again(product, remade, self.linear_fc2, keeper):
            output, _bias = self.linear_fc2(product)
        return output, None


class Attention(SelfAttention):
    """megatron-core's linears around our core attention, which reads their output in place."""

    @property
    def values_alone(self) -> bool:
        """Whether values get memory of their own: backward then needs no more of the projection.

        Head norms need it all the same, and context parallelism copies the values anyway.
        """
        plain = isinstance(self.q_layernorm, IdentityOp)
        return plain and self.config.context_parallel_size == 1

    def forward(
        self,
        hidden_states: Tensor,
        packed_seq_params: SequenceLayout,
        again: Again | None = None,
        keeper: Keeper = IN_PLACE,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no bias)."""
        with made_again(hidden_states, again, self.linear_qkv, keeper):
            projected, _bias = self.linear_qkv(hidden_states)
        heads, groups = self.num_attention_heads_per_partition, self.num_query_groups_per_partition
        grouped = projected.unflatten(-1, (groups, -1, self.hidden_size_per_attention_head))
        # A group's query heads, then its key and its value: views, as kernels take any strides.
        query, key, value = grouped.split([heads // groups, 1, 1], dim=-2)
        query, key = self.q_layernorm(query), self.k_layernorm(key).squeeze(-2)
        value = value.squeeze(-2)
        recomputed = self.checkpoint_core_attention and self.training
        if self.values_alone and not recomputed:
            value = value.contiguous()
        arguments = query, key, value
        if recomputed:
            attended = self._checkpointed_attention_forward(
                *arguments, None, packed_seq_params=packed_seq_params
            )
        else:
            attended = self.core_attention(*arguments, packed_seq_params=packed_seq_params)
        output, _bias = self.linear_proj(attended)
        return output, None


class Layer(TransformerLayer):
    """One pre-norm block, with the residual add before the second norm fused into it.

    `recomputed`: the parts that backward makes again (trainer.recipe.recompute); `offload` takes
    what backward needs to host memory meanwhile.
    """

    def __init__(
        self,
        *arguments: Any,
        recomputed: frozenset[str] = frozenset(),
        offload: Offload | None = None,
        **keys: Any,
    ) -> None:
        super().__init__(*arguments, **keys)
        self.recomputed = recomputed
        self.offload = offload

    def forward(
        self,
        hidden_states: Tensor,
        packed_seq_params: SequenceLayout | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no context)."""
        if self.offload is None or not (self.training and torch.is_grad_enabled()):
            return self._whole(hidden_states, packed_seq_params, IN_PLACE), None
        assert packed_seq_params is not None
        shared = packed_seq_params.rotation, packed_seq_params.visible
        with self.offload.layer(self, shared) as keeper:
            return self._whole(hidden_states, packed_seq_params, keeper), None

    def _whole(
        self, hidden_states: Tensor, layout: SequenceLayout | None, keeper: Keeper
    ) -> Tensor:
        if "full" not in self.recomputed or not self.training:
            return self.block(hidden_states, layout, keeper)
        output: Tensor = checkpoint(
            lambda hidden: self.block(hidden, layout, IN_PLACE), False, hidden_states
        )
        return output

    def block(
        self, hidden_states: Tensor, layout: SequenceLayout | None, keeper: Keeper = IN_PLACE
    ) -> Tensor:
        """[sequence, batch, hidden] -> the same; what a linear alone keeps goes to `keeper`."""
        normalised = self.input_layernorm(hidden_states)
        again = self._again(self.input_layernorm, hidden_states)
        attended, _bias = self.self_attention(
            normalised, packed_seq_params=layout, again=again, keeper=keeper
        )
        normalised, residual = self.pre_mlp_layernorm(attended, hidden_states)
        again = self._again(self.pre_mlp_layernorm, residual)
        if self.recompute_mlp and self.training:
            with made_again(normalised, again, self.mlp, keeper):
                output, _bias = checkpoint(self.mlp, False, normalised)
        else:
            output, _bias = self.mlp(normalised, again=again, keeper=keeper)
        return residual + output

    def _again(self, norm: Any, x: Tensor) -> Again | None:
        """How the norm's newest result is made from `x`, where backward is to do so."""
        return norm.again(x) if isinstance(norm, RemadeNorm) else None


def _as_it_is(_name: str, plain: type) -> type | ModuleSpec:
    return plain


def layer_spec(
    config: TransformerConfig,
    kernels: KernelsSection,
    linear: Callable[[str, type], type | ModuleSpec] = _as_it_is,
    recomputed: frozenset[str] = frozenset(),
    offload: Offload | None = None,
) -> ModuleSpec:
    """One transformer layer: pre-norm, grouped-query attention, SwiGLU.

    `linear` says what stands in the place of a linear of this name below the layer; `recomputed`
    and `offload` as in `Layer`.
    """
    norm = RemadeNorm if "norms" in recomputed else RMSNorm
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
        params={"ffn_hidden_size": config.ffn_hidden_size, "remade": "swiglu" in recomputed},
        submodules=MLPSubmodules(
            linear_fc1=linear("mlp.linear_fc1", ColumnParallelLinear),
            linear_fc2=linear("mlp.linear_fc2", RowParallelLinear),
        ),
    )
    return ModuleSpec(
        module=Layer,
        params={"recomputed": recomputed, "offload": offload},
        submodules=TransformerLayerSubmodules(
            input_layernorm=norm,
            self_attention=attention,
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=norm,
            mlp=mlp,
            mlp_bda=get_bias_dropout_add,
        ),
    )
