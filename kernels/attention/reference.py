"""Attention by its formula, on a dense mask: the tests' oracle, and the `reference` back end."""

import torch
from torch import Tensor

from kernels.attention.visible import Visible


def reference(
    query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """(softmax(scale Q K^T) V, its log-sum-exp), over the keys that each query sees.

    [queries, batch, heads, head_size] and fp32 [batch, heads, queries] from the tensors of
    `attention_with_lse`; fp32 inside (fp64 for fp64), rounded once. Memory grows with
    queries x keys.
    """
    queries, batch, heads, head_size = query.shape
    kv_heads = key.shape[2]
    scale = head_size**-0.5 if scale is None else scale
    kind = torch.promote_types(query.dtype, torch.float32)
    grouped = query.to(kind).reshape(queries, batch, kv_heads, heads // kv_heads, head_size)
    scores = torch.einsum("qbngd,kbnd->bngqk", grouped, key.to(kind)) * scale
    scores = scores + visible.mask(kind)[:, :, None]
    if visible.keys > 0:
        peak = scores.detach().amax(dim=-1, keepdim=True)
        peak = peak.masked_fill(peak == float("-inf"), 0.0)
    else:
        peak = scores.new_zeros(*scores.shape[:-1], 1)
    weights = torch.exp(scores - peak)
    mass = weights.sum(dim=-1, keepdim=True)
    empty = mass == 0.0
    mass = mass.masked_fill(empty, 1.0)
    lse = (peak + mass.log()).masked_fill(empty, float("-inf"))
    output = torch.einsum("bngqk,kbnd->qbngd", weights / mass, value.to(kind))
    return output.reshape(query.shape).to(query.dtype), lse.reshape(batch, heads, queries)
