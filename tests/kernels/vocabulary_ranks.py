"""What one rank of a vocabulary-parallel group computes, for the tests to put together."""

import unittest.mock
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels import dispatch
from kernels.cross_entropy import cross_entropy
from kernels.linear_cross_entropy import linear_cross_entropy

Case = tuple[str, Tensor, Tensor | None, Tensor, Tensor, dict[str, Any]]
"""(mode, logits or hidden states, the weight if there is one, labels, upstream, options)."""


def compute(cases: Sequence[Case]) -> list[tuple[int, Tensor, ...]]:
    """For each case (number of collectives, losses, this rank's gradients)."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    group = dist.new_group(range(dist.get_world_size()))
    counted = unittest.mock.Mock(side_effect=dist.all_gather_into_tensor)
    with (
        unittest.mock.patch.object(dist, "all_gather_into_tensor", counted),
        unittest.mock.patch.object(dist, "all_reduce", None),  # none is needed
    ):
        found = []
        for case in cases:
            counted.reset_mock()
            tensors = _compute(group, *case)
            found.append((counted.call_count, *tensors))
    return found


def _compute(
    group: dist.ProcessGroup,
    mode: str,
    whole: Tensor,
    weight: Tensor | None,
    labels: Tensor,
    upstream: Tensor,
    options: dict[str, Any],
) -> tuple[Tensor, ...]:
    dispatch.MODE = mode
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if weight is None:
        logits = whole.chunk(ranks, dim=-1)[rank].clone().requires_grad_()
        losses = cross_entropy(logits * 1, labels, group, **options)
        inputs = [logits]
    else:
        hidden = whole.clone().requires_grad_()
        part = weight.chunk(ranks)[rank].clone().requires_grad_()
        losses = linear_cross_entropy(hidden, part, labels, group, **options)
        inputs = [hidden, part]
    gradients = torch.autograd.grad(losses, inputs, upstream)
    return losses.detach(), *gradients
