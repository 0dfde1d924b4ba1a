"""Our core attention: rotation, document boundaries, context parallelism, the generation cache."""

from typing import Any

import torch
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from torch import Tensor

import kernels
from trainer.model.sequence import SequenceLayout, natural_order


class KeyValueCache:
    """Each layer's keys and values of the tokens so far; grows by concatenation.

    One cache serves one generation on one rank. Keys are stored after RoPE.
    """

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append [new, batch, kv_heads, head_size]; returns all so far, [keys, ...] in its dtype.

        `layer`: the layer's number.
        """
        if layer in self._layers:
            old_key, old_value = self._layers[layer]
            key, value = torch.cat((old_key, key)), torch.cat((old_value, value))
        self._layers[layer] = (key, value)
        return key, value


class CachedSequence(SequenceLayout):
    """A SequenceLayout of generation: new keys and values are appended to its `cache`."""

    cache: KeyValueCache


class CoreAttention(torch.nn.Module):
    """Causal attention inside documents, between the linears of SelfAttention.

    `packed_seq_params` carries our SequenceLayout: megatron-core passes it through unchanged, also
    around recomputation. `config`, `layer_number` and `pg_collection` come from megatron-core;
    `backend` and `deterministic` as in `kernels.attention`; `window`: the most tokens that a query
    attends to, itself included (None: its whole document).
    """

    def __init__(
        self,
        config: Any,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        pg_collection: Any,
        backend: str,
        deterministic: bool,
        window: int | None = None,
        **_: Any,
    ) -> None:
        super().__init__()
        self.layer_number = layer_number
        self.context_group = pg_collection.cp if config.context_parallel_size > 1 else None
        self.backend = backend
        self.deterministic = deterministic
        self.window = window
        self.interleaved = config.rotary_interleaved
        self.scale = config.softmax_scale
        self.off_by_one = config.softmax_type == "off-by-one"

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        packed_seq_params: SequenceLayout | None = None,
        **_: Any,
    ) -> Tensor:
        """[sequence, batch, heads, head_size] fp32 or bf16 -> [sequence, batch, heads * head_size].

        The query may have its heads grouped, [.., kv_heads, heads / kv_heads, head_size]; key and
        value: [sequence, batch, kv_heads, head_size]. Under context parallelism `sequence` is this
        rank's slice.
        """
        layout = packed_seq_params
        assert layout is not None
        # The back end chosen for training need not support queries that continue a cache.
        generating = isinstance(layout, CachedSequence)
        query, key = kernels.rope(query, key, *layout.rotation, interleaved=self.interleaved)
        if isinstance(layout, CachedSequence):
            key, value = layout.cache.extend(self.layer_number, key, value)
        elif self.context_group is not None:
            key, value = self._gather(key, value)
        attend = self._off_by_one if self.off_by_one else kernels.attention
        return attend(
            query,
            key,
            value,
            layout.visible_through(self.window),
            scale=self.scale,
            backend="auto" if generating else self.backend,
            deterministic=self.deterministic,
        )

    def _off_by_one(self, *tensors: Any, **options: Any) -> Tensor:
        """As `kernels.attention`, with exp(0) in the denominator: m / (m + 1) = sigmoid(log m)."""
        output, lse = kernels.attention_with_lse(*tensors, **options)
        share = torch.sigmoid(lse).permute(2, 0, 1).unsqueeze(-1)
        return (output * share).to(output.dtype).flatten(2)

    def _gather(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        # All-gather forward, reduce-scatter backward: all queries send gradients to all keys.
        assert self.context_group is not None
        both = torch.stack((key, value), dim=1)
        gathered = gather_from_sequence_parallel_region(both, group=self.context_group)
        natural = natural_order(gathered, self.context_group.size())
        return natural[:, 0], natural[:, 1]
