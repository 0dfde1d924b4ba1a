"""Rotary position embedding (Su et al. 2021), half layout: channel i turns with i + size / 2."""

import torch
from torch import Tensor


def rope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Turn each head's channel pairs by the angle of its token's position.

    `query`: [sequence, batch, heads, head_size]; `key`: [sequence, batch, kv_heads, head_size];
    `cos`, `sin`: [sequence, batch, 1, head_size], fp32, both halves filled. Computed in fp32,
    returned in the inputs' dtypes.
    """
    return _turn(query, cos, sin), _turn(key, cos, sin)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (wide * cos + turned * sin).to(x.dtype)
