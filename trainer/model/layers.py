"""The modules that our ModuleSpec puts into megatron-core's transformer layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.tensor_parallel import checkpoint
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
from trainer.model.linears import ColumnLinear, RowLinear
from trainer.model.offload import Offload
from trainer.model.recompute import Recomputation, SavedInPlace, SavedTensorStore, recomputed_input
from trainer.model.sequence import SequenceLayout
from trainer.recipe import Recipe

IN_PLACE = SavedInPlace()


class Norm(torch.nn.Module):
    """RMSNorm, or LayerNorm, which has a bias; its vectors are replicated over tensor ranks.

    Which of the two, and whether weights are zero-centred, is the configuration's `normalization`
    and `layernorm_zero_centered_gamma`. Weight and bias are [hidden_size] in `params_dtype`.
    """

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        self.zero_centered = config.layernorm_zero_centered_gamma
        fresh = {"dtype": config.params_dtype, "device": torch.cuda.current_device()}
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, **fresh))
        bias = None
        if config.normalization == "LayerNorm":
            bias = torch.nn.Parameter(torch.zeros(hidden_size, **fresh))
        self.register_parameter("bias", bias)
        # Under sequence parallelism each rank normalises only its slice of the sequence.
        self.partial_gradients = self.vectors if config.sequence_parallel else ()

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return ("weight",) if self.bias is None else ("weight", "bias")

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """[..., hidden] fp32 or bf16 -> the same; with `residual`, (norm(x + residual), the sum).

        One method for both, as ZeRO-3 gathers the vectors only around a module's forward.
        """
        if residual is None:
            return normalised(x, self.weight, self.bias, self.eps, self.zero_centered)
        if self.bias is None:
            return kernels.add_rms_norm(x, residual, self.weight, self.eps, self.zero_centered)
        return kernels.add_layer_norm(
            x, residual, self.weight, self.bias, self.eps, self.zero_centered
        )


def normalised(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, zero_centered: bool
) -> Tensor:
    """[..., hidden] -> the same; `weight`, `bias`: [hidden]. RMSNorm where `bias` is None."""
    if bias is None:
        return kernels.rms_norm(x, weight, eps, zero_centered)
    return kernels.layer_norm(x, weight, bias, eps, zero_centered)


class RecomputedNorm(Norm):
    """A norm whose result backward recomputes: it holds the vectors that the newest one used."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """As `Norm.forward`."""
        self._used = [_own(vector) for vector in (self.weight, self.bias)]
        return super().forward(x, residual)

    def recomputation(self, x: Tensor) -> Recomputation:
        """How to recompute the newest result; `x`: what was normalised, the residual included."""
        weight, bias = self._used
        assert weight is not None, "a norm has a weight"
        make = partial(
            normalised, weight=weight, bias=bias, eps=self.eps, zero_centered=self.zero_centered
        )
        return Recomputation(x, make)


def _own(vector: Tensor | None) -> Tensor | None:
    """The vector without its graph; a copy where ZeRO-3 gathered it as a slice of much more."""
    if vector is None:
        return None
    vector = vector.detach()
    # A slice would keep the whole gathered buffer alive.
    whole = vector.untyped_storage().nbytes() == vector.nbytes
    return vector if whole else vector.clone()


class HeadNorm(Norm):
    """A norm over each head's channels, of queries and keys; tensor ranks hold different heads."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__(config, hidden_size, eps)
        self.partial_gradients = self.vectors


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """[..., 2 * ffn] -> [..., ffn]; `activation` as in the recipe."""
    if activation == "swiglu":
        return kernels.swiglu(gate_up)
    return kernels.geglu(gate_up, approximate=activation == "geglu_tanh")


class GatedMLP(MLP):
    """megatron-core's MLP with our gated unit between its two linears.

    `activation` as in the recipe; `recompute_product`: whether backward recomputes the gated
    product instead of saving it.
    """

    def __init__(
        self, *arguments: Any, activation: str, recompute_product: bool = False, **keys: Any
    ) -> None:
        super().__init__(*arguments, **keys)
        self.activation = activation
        self.recompute_product = recompute_product

    def forward(
        self,
        hidden_states: Tensor,
        per_token_scale: Tensor | None = None,
        recomputation: Recomputation | None = None,
        store: SavedTensorStore = IN_PLACE,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no bias)."""
        with recomputed_input(hidden_states, recomputation, self.linear_fc1, store):
            gate_up, _bias = self.linear_fc1(hidden_states)
        product = gated(gate_up, self.activation)
        gate = partial(gated, activation=self.activation)
        of_product = Recomputation(gate_up, gate) if self.recompute_product else None
        with recomputed_input(product, of_product, self.linear_fc2, store):
            output, _bias = self.linear_fc2(product)
        return output, None


class Attention(SelfAttention):
    """megatron-core's linears around our core attention, which reads their output in place."""

    @property
    def values_alone(self) -> bool:
        """Whether to copy the values, so that backward need not save the whole QKV projection.

        Not with head norms, which save it anyway, nor under context parallelism, which copies the
        values when it gathers them.
        """
        plain = isinstance(self.q_layernorm, IdentityOp)
        return plain and self.config.context_parallel_size == 1

    def forward(
        self,
        hidden_states: Tensor,
        packed_seq_params: SequenceLayout,
        recomputation: Recomputation | None = None,
        store: SavedTensorStore = IN_PLACE,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """[sequence, batch, hidden] -> ([sequence, batch, hidden], no bias)."""
        with recomputed_input(hidden_states, recomputation, self.linear_qkv, store):
            projected, _bias = self.linear_qkv(hidden_states)
        heads, groups = self.num_attention_heads_per_partition, self.num_query_groups_per_partition
        grouped = projected.unflatten(-1, (groups, -1, self.hidden_size_per_attention_head))
        # Per group: query heads, one key head, one value head; views, as kernels take any strides.
        query, key, value = grouped.split([heads // groups, 1, 1], dim=-2)
        if self.config.qk_layernorm:
            query, key = self.q_layernorm(query), self.k_layernorm(key)
        key, value = key.squeeze(-2), value.squeeze(-2)
        recomputed = self.checkpoint_core_attention and self.training
        # A model that trains computes without gradients what it recomputes with them, bitwise.
        saved = self.training or torch.is_grad_enabled()
        if self.values_alone and saved and not recomputed:
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

    `recomputed`: the parts that backward recomputes (trainer.recipe.recompute); `offload`: moves
    tensors saved for backward to host memory, if given.
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
        window = self.self_attention.core_attention.window
        shared = packed_seq_params.rotation, packed_seq_params.visible_through(window)
        with self.offload.layer(self, shared) as store:
            return self._whole(hidden_states, packed_seq_params, store), None

    def _whole(
        self, hidden_states: Tensor, layout: SequenceLayout | None, store: SavedTensorStore
    ) -> Tensor:
        if "full" not in self.recomputed or not self.training:
            return self.block(hidden_states, layout, store)
        output: Tensor = checkpoint(
            lambda hidden: self.block(hidden, layout, IN_PLACE), False, hidden_states
        )
        return output

    def block(
        self,
        hidden_states: Tensor,
        layout: SequenceLayout | None,
        store: SavedTensorStore = IN_PLACE,
    ) -> Tensor:
        """[sequence, batch, hidden] -> the same; `store` saves what recomputed inputs need."""
        normalised = self.input_layernorm(hidden_states)
        recomputation = self._recomputation(self.input_layernorm, hidden_states)
        attended, _bias = self.self_attention(
            normalised, packed_seq_params=layout, recomputation=recomputation, store=store
        )
        normalised, residual = self.pre_mlp_layernorm(attended, hidden_states)
        recomputation = self._recomputation(self.pre_mlp_layernorm, residual)
        if self.recompute_mlp and self.training:
            with recomputed_input(normalised, recomputation, self.mlp, store):
                output, _bias = checkpoint(self.mlp, False, normalised)
        else:
            output, _bias = self.mlp(normalised, recomputation=recomputation, store=store)
        return residual + output

    def _recomputation(self, norm: Any, x: Tensor) -> Recomputation | None:
        """How to recompute the norm's newest result from `x`; None where it is saved."""
        return norm.recomputation(x) if isinstance(norm, RecomputedNorm) else None


def _as_it_is(_name: str, plain: type) -> type | ModuleSpec:
    return plain


def layer_spec(
    config: TransformerConfig,
    recipe: Recipe,
    layer: int,
    linear: Callable[[str, type], type | ModuleSpec] = _as_it_is,
    offload: Offload | None = None,
) -> ModuleSpec:
    """One transformer layer: pre-norm, grouped-query attention, gated MLP.

    `layer`: its index in the whole model, from 0; `linear(name, type)`: the module or spec to use
    for the linear of that name in the layer, such as one with an adapter; `offload` as in `Layer`.
    """
    kernels, recomputed = recipe.kernels, recipe.recomputed
    norm = RecomputedNorm if "norms" in recomputed else Norm
    head_norm = HeadNorm if config.qk_layernorm else IdentityOp
    core_attention = ModuleSpec(
        module=CoreAttention,
        params={
            "backend": kernels.attention,
            "deterministic": kernels.deterministic,
            "window": recipe.model.windows[layer],
        },
    )
    attention = ModuleSpec(
        module=Attention,
        params={"attn_mask_type": AttnMaskType.causal},
        submodules=SelfAttentionSubmodules(
            linear_qkv=linear("self_attention.linear_qkv", ColumnLinear),
            core_attention=core_attention,
            linear_proj=linear("self_attention.linear_proj", RowLinear),
            q_layernorm=head_norm,
            k_layernorm=head_norm,
        ),
    )
    mlp = ModuleSpec(
        module=GatedMLP,
        params={
            "ffn_hidden_size": config.ffn_hidden_size,
            "activation": recipe.model.activation,
            "recompute_product": "swiglu" in recomputed,
        },
        submodules=MLPSubmodules(
            linear_fc1=linear("mlp.linear_fc1", ColumnLinear),
            linear_fc2=linear("mlp.linear_fc2", RowLinear),
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
