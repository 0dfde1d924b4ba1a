"""The layout of a micro-batch: documents, positions, context slices, attention intervals."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

import kernels
from kernels.launch import sent
from trainer.model.rotary import RotaryEmbedding


def context_slice(sequence_length: int, rank: int, size: int) -> Tensor:
    """The token offsets that context rank `rank` of `size` holds, int64 [length / size].

    Chunks r and 2*size-1-r of 2*size, which balances causal attention's work over the ranks.
    """
    if size == 1:
        return torch.arange(sequence_length)
    chunks = torch.arange(sequence_length).chunk(2 * size)
    return torch.cat((chunks[rank], chunks[2 * size - 1 - rank]))


def natural_order(gathered: Tensor, size: int) -> Tensor:
    """Reorder a gather of `size` context slices, [sequence, ...], into the sequence's order."""
    if size == 1:
        return gathered
    chunks = gathered.chunk(2 * size)
    early = [chunks[2 * rank] for rank in range(size)]
    late = [chunks[2 * rank + 1] for rank in reversed(range(size))]
    return torch.cat(early + late)


def document_lengths(position_ids: Tensor) -> Tensor:
    """The length of each token's document so far as it stands in its row; int64, as `position_ids`.

    `position_ids`: int64 [batch, sequence]; a document begins where it is 0.
    """
    begins = torch.zeros_like(position_ids, dtype=torch.bool)
    begins[:, 1:] = position_ids[:, 1:] == 0
    last = torch.ones_like(begins)
    last[:, :-1] = begins[:, 1:]
    # Counted from the end, the last token of a token's document is the nearest one.
    index = torch.arange(position_ids.shape[1], device=position_ids.device)
    ends = torch.where(last, index, position_ids.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    return position_ids.gather(1, ends) + 1


@dataclass
class SequenceLayout:
    """The documents of one micro-batch, as attention needs them; built once, read by every layer.

    `position_ids`: int64 [batch, sequence], the *whole* sequence on every rank; a document begins
    where it is 0. `queries`: this rank's token offsets, int64 [sequence / context], ascending
    (None: all). During generation `position_ids` covers the cache too, and `queries` are the last
    offsets. `rotary`: on the device of `position_ids`, or brought there.
    """

    position_ids: Tensor
    queries: Tensor | None
    rotary: RotaryEmbedding
    lengths: Tensor | None = None
    """The length of each token's document where it is another than `position_ids` say, as during
    generation: int64 [batch, sequence]. Read where the rotation follows from it."""
    on_host: Tensor | None = None
    """`position_ids` in host memory, if available: reading them then needs no device sync."""
    qkv_format: str = "sbhd"  # megatron-core asks this of whatever describes packed sequences
    _visible: dict[int | None, kernels.Visible] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def whole(
        cls,
        position_ids: Tensor,
        rotary: RotaryEmbedding,
        context_rank: int = 0,
        context_size: int = 1,
        on_host: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> "SequenceLayout":
        """The layout of a training micro-batch on context rank `context_rank`.

        `position_ids`: int64 [batch, sequence]; `on_host`: the same in host memory; `lengths` as
        the field.
        """
        queries = None
        if context_size > 1:
            queries = context_slice(position_ids.shape[1], context_rank, context_size)
            queries = sent(queries, position_ids.device)
        return cls(position_ids, queries, rotary, lengths, on_host)

    @property
    def length(self) -> int:
        """Tokens that this rank holds of each sequence."""
        return self.position_ids.shape[1] if self.queries is None else len(self.queries)

    @cached_property
    def rotation(self) -> tuple[Tensor, Tensor]:
        """Cos and sin of this rank's tokens, fp32 [batch, sequence / context, head_size / 2]."""
        positions, lengths = self.position_ids, self.lengths
        rotary = self.rotary.to(positions.device)
        if rotary.by_length and lengths is None:
            lengths = document_lengths(positions)
        if self.queries is not None:
            positions = positions[:, self.queries]
            lengths = None if lengths is None else lengths[:, self.queries]
        return rotary.table(positions, lengths)

    @property
    def visible(self) -> kernels.Visible:
        """Causal attention inside each document: itself and earlier tokens."""
        return self.visible_through(None)

    def visible_through(self, window: int | None) -> kernels.Visible:
        """As `visible`, but no more than the `window` newest tokens, itself included."""
        if window not in self._visible:
            self._visible[window] = kernels.Visible.documents(
                self.position_ids, self.queries, window, self.on_host
            )
        return self._visible[window]
