"""How tokens lie in a micro-batch: documents, positions, this rank's share, what may be seen."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

import kernels
from kernels.tensor_list import sent
from trainer.recipe import Recipe


def context_slice(sequence_length: int, rank: int, size: int) -> Tensor:
    """The places in a sequence that context rank `rank` of `size` holds, int64 [length / size].

    Chunks r and 2*size-1-r of 2*size: each rank then has the same share of causal attention's work.
    """
    if size == 1:
        return torch.arange(sequence_length)
    chunks = torch.arange(sequence_length).chunk(2 * size)
    return torch.cat((chunks[rank], chunks[2 * size - 1 - rank]))


def natural_order(gathered: Tensor, size: int) -> Tensor:
    """What `size` context ranks gathered, [sequence, ...], in the order of the sequence."""
    if size == 1:
        return gathered
    chunks = gathered.chunk(2 * size)
    early = [chunks[2 * rank] for rank in range(size)]
    late = [chunks[2 * rank + 1] for rank in reversed(range(size))]
    return torch.cat(early + late)


def rope_frequencies(recipe: Recipe) -> Tensor:
    """Angle a position, in radians, of each channel pair; fp32 [head_size / 2]."""
    model = recipe.model
    scaling = model.rope_scaling.model_dump() if model.rope_scaling else {}
    return kernels.rope_frequencies(model.head_width, model.rope_theta, **scaling)


@dataclass
class SequenceLayout:
    """The documents of one micro-batch, as attention needs them; made once, read by every layer.

    `position_ids`: int64 [batch, sequence], the *whole* sequence on every rank; a document begins
    where it is 0. `queries`: the places this rank holds, [sequence / context size], rising; none:
    all. While generating, `position_ids` covers the cache too, and `queries` are its last places.
    """

    position_ids: Tensor
    queries: Tensor | None
    frequencies: Tensor
    on_host: Tensor | None = None
    """`position_ids` in host memory, where they are known there: nobody need wait to read them."""
    qkv_format: str = "sbhd"  # megatron-core asks this of whatever describes packed sequences
    _visible: dict[int | None, kernels.Visible] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def whole(
        cls,
        position_ids: Tensor,
        frequencies: Tensor,
        context_rank: int = 0,
        context_size: int = 1,
        on_host: Tensor | None = None,
    ) -> "SequenceLayout":
        """The layout of a training micro-batch on context rank `context_rank`."""
        queries = None
        if context_size > 1:
            queries = context_slice(position_ids.shape[1], context_rank, context_size)
            queries = sent(queries, position_ids.device)
        return cls(position_ids, queries, frequencies, on_host=on_host)

    @property
    def length(self) -> int:
        """Tokens that this rank holds of each sequence."""
        return self.position_ids.shape[1] if self.queries is None else len(self.queries)

    @cached_property
    def rotation(self) -> tuple[Tensor, Tensor]:
        """Cos and sin of this rank's tokens, fp32 [batch, sequence / context, head_size / 2]."""
        positions = self.position_ids
        if self.queries is not None:
            positions = positions[:, self.queries]
        return kernels.rope_table(positions, self.frequencies.to(positions.device))

    @property
    def visible(self) -> kernels.Visible:
        """A token sees itself and what came before it in its own document."""
        return self.visible_through(None)

    def visible_through(self, window: int | None) -> kernels.Visible:
        """As `visible`, but no more than the `window` newest tokens, itself included."""
        if window not in self._visible:
            self._visible[window] = kernels.Visible.documents(
                self.position_ids, self.queries, window, self.on_host
            )
        return self._visible[window]
