"""Our core attention: rotation, document boundaries, context parallelism, cached keys."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from torch import Tensor

import kernels
from trainer.model.sequence import SequenceLayout, natural_order


class VisibleKeys(Protocol):
    """The keys and values that tokens of a CachedSequence see, their own and earlier ones."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Those of a layer, [keys, batch, kv_heads, head_size], from those of the new tokens.

        `key` and `value`: [new, batch, kv_heads, head_size], keys after RoPE; `layer`: its number
        in the whole model.
        """


@dataclass
class CachedSequence(SequenceLayout):
    """A SequenceLayout of tokens that go on with a text whose keys and values are known.

    `position_ids` and `lengths` are those of the new tokens, int64 [batch, new]; `dense`: which
    keys each of this rank's new tokens sees, bool [batch, new / context, keys], or None: all;
    `key_positions`: where in its text each key stands, int64 [batch or 1, keys], read by layers
    with a window.
    """

    key_values: VisibleKeys = field(kw_only=True)
    key_positions: Tensor = field(kw_only=True)
    dense: Tensor | None = field(kw_only=True, default=None)

    def visible_through(self, window: int | None) -> kernels.Visible:
        """The keys that each token sees: no more than the `window` newest, itself included."""
        if window not in self._visible:
            self._visible[window] = self._seen(window)
        return self._visible[window]

    def _seen(self, window: int | None) -> kernels.Visible:
        rows, keys = len(self.position_ids), self.key_positions.shape[1]
        if self.dense is None and window is None:
            return kernels.Visible.full(rows, self.length, keys, self.position_ids.device)
        dense = self.dense
        if window is not None:
            own = self.position_ids
            own = own if self.queries is None else own[:, self.queries]
            near = own[:, :, None] - self.key_positions[:, None, :] < window
            dense = near if dense is None else dense & near
        assert dense is not None
        return kernels.Visible.of_dense(dense)


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
        cached = isinstance(layout, CachedSequence)
        query, key = kernels.rope(query, key, *layout.rotation, interleaved=self.interleaved)
        if self.context_group is not None:
            key, value = self._gather(key, value)
        if isinstance(layout, CachedSequence):
            key, value = layout.key_values.extend(self.layer_number, key, value)
        attend = self._off_by_one if self.off_by_one else kernels.attention
        return attend(
            query,
            key,
            value,
            layout.visible_through(self.window),
            scale=self.scale,
            backend="auto" if cached else self.backend,
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
