"""The entropy of a token's distribution over a vocabulary that tensor ranks may share."""

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.model.linears import product

TOKENS_TOGETHER = 256
"""Tokens whose probabilities exist at a time, which bounds the memory."""

NEGLIGIBLE = -100.0
"""A logit so far below the largest adds nothing, and -inf (a padding row) times 0 would be NaN."""


@torch.no_grad()
def entropies_of_logits(logits: Tensor, group: dist.ProcessGroup) -> Tensor:
    """-sum(p log p) of each token, in nats: fp32 [...], from logits [..., vocab / group size]."""
    flat = logits.detach().flatten(0, -2)
    found = [_entropies(block, group) for block in flat.split(TOKENS_TOGETHER)]
    return torch.cat(found).view(logits.shape[:-1])


@torch.no_grad()
def entropies_of_hidden(hidden: Tensor, weight: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The same of the logits that hidden states [..., hidden] give with [vocab / size, hidden]."""
    flat = hidden.detach().flatten(0, -2)
    found = [_entropies(product(block, weight), group) for block in flat.split(TOKENS_TOGETHER)]
    return torch.cat(found).view(hidden.shape[:-1])


def _entropies(logits: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[tokens, vocab / size] -> fp32 [tokens]: log(sum(e)) - sum(e x) / sum(e), where e = exp(x)
    and x is the logit less the largest one.
    """
    logits = logits.float()
    highest = logits.amax(dim=-1, keepdim=True)
    if group.size() > 1:
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=group)
    shifted = (logits - highest).clamp_(min=NEGLIGIBLE)
    weights = shifted.exp()
    sums = torch.stack((weights.sum(dim=-1), (weights * shifted).sum(dim=-1)))
    if group.size() > 1:
        dist.all_reduce(sums, group=group)
    return sums[0].log() - sums[1] / sums[0]
