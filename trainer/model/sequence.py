"""How tokens lie in a micro-batch: documents, positions, this rank's share, what may be seen."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.recipe import Recipe


def context_slice(sequence_length: int, rank: int, size: int) -> Tensor:
    """The places in a sequence that context rank `rank` of `size` holds, int64 [length / size].

    Chunks r and 2*size-1-r of 2*size: each rank then has the same share of causal attention's work.
    """
    if size == 1:
        return torch.arange(sequence_length)
    chunks = torch.arange(sequence_length).chunk(2 * size)
    return torch.cat((chunks[rank], chunks[2 * size - 1 - rank]))


def rope_frequencies(recipe: Recipe) -> Tensor:
    """Angle a position, in radians, of each channel pair; fp32 [head_size / 2].

    Base frequencies after Su et al. 2021; with `rope_scaling`, long wavelengths are stretched as
    Llama 3.1 does it: all of `factor` beyond the original context, none below it, smooth between.
    """
    model = recipe.model
    head_size = model.head_size or model.hidden // model.heads
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    frequencies = 1.0 / model.rope_theta**exponents
    scaling = model.rope_scaling
    if scaling is None:
        return frequencies
    wavelengths = 2 * torch.pi / frequencies
    turns = scaling.original_context / wavelengths
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * keep + frequencies / scaling.factor * (1.0 - keep)


@dataclass
class SequenceLayout:
    """The documents of one micro-batch, as attention needs them; made once, read by every layer.

    `position_ids`: int64 [batch, sequence], the *whole* sequence on every rank; a document begins
    where it is 0. `queries`: the places this rank holds, [sequence / context size]; `keys`: the
    places of the gathered keys, in the order in which gathering gives them, [sequence]. While
    generating, `position_ids` covers the cache too, and `queries` are its last places.
    """

    position_ids: Tensor
    queries: Tensor
    keys: Tensor
    frequencies: Tensor
    qkv_format: str = "sbhd"  # megatron-core asks this of whatever describes packed sequences
    _cache: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)

    @classmethod
    def whole(
        cls, position_ids: Tensor, frequencies: Tensor, context_rank: int = 0, context_size: int = 1
    ) -> "SequenceLayout":
        """The layout of a training micro-batch on context rank `context_rank`."""
        length, device = position_ids.shape[1], position_ids.device
        shares = [context_slice(length, rank, context_size) for rank in range(context_size)]
        queries = shares[context_rank].to(device)
        return cls(position_ids, queries, torch.cat(shares).to(device), frequencies)

    def rotation(self) -> tuple[Tensor, Tensor]:
        """Cos and sin of this rank's tokens, fp32 [sequence / context, batch, 1, head_size]."""
        if "rotation" not in self._cache:
            positions = self.position_ids[:, self.queries].t().float()
            angles = positions[..., None] * self.frequencies.to(positions.device)
            angles = torch.cat((angles, angles), dim=-1).unsqueeze(2)
            self._cache["rotation"] = (angles.cos(), angles.sin())
        cos, sin = self._cache["rotation"]
        return cos, sin

    def mask(self, dtype: torch.dtype) -> Tensor:
        """0 where a query may look, -inf elsewhere: [batch, 1, queries, keys].

        A token sees itself and what came before it in its own document.
        """
        name = f"mask {dtype}"
        if name not in self._cache:
            documents = (self.position_ids == 0).cumsum(dim=1)
            same = documents[:, self.queries, None] == documents[:, None, self.keys]
            before = self.queries[:, None] >= self.keys[None, :]
            visible = (same & before).unsqueeze(1)
            mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
            self._cache[name] = (mask.masked_fill_(~visible, float("-inf")),)
        return self._cache[name][0]
