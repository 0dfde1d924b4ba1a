"""Scaled dot-product attention with grouped key/value heads and an additive mask."""

import torch
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(head_size) + mask) V, each group of query heads on its key/value head.

    `query`: [sequence_q, batch, heads, head_size]; `key`, `value`: [sequence_k, batch, kv_heads,
    head_size]; `mask`: [batch, 1, sequence_q, sequence_k], 0 where a query may look and -inf where
    it may not, in the query's dtype. Returns [sequence_q, batch, heads * head_size].
    """
    sequence, batch, heads, head_size = query.shape
    query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=key.shape[1] != heads
    )
    return output.permute(2, 0, 1, 3).reshape(sequence, batch, heads * head_size)
