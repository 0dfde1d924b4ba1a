"""Where this rank stands: device, coordinates on the parallel axes, and the groups it talks to."""

from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Axis:
    """One parallel axis: this rank's index on it, its size, and the group of ranks along it."""

    rank: int
    size: int
    group: dist.ProcessGroup


@dataclass(frozen=True)
class Layout:
    """This rank's coordinates. Ranks are numbered tensor fastest, then context, data, pipeline.

    `replicas` holds the ranks with the same weights (data x context): gradients are reduced and
    optimizer state is sharded over it. `model` holds the ranks that make up one copy of the model
    (tensor x pipeline). `hosts` holds all ranks and reduces tensors in host memory (gloo), so that
    values which the hosts know need no device sync.
    """

    device: torch.device
    rank: int
    world_size: int
    tensor: Axis
    context: Axis
    data: Axis
    pipeline: Axis
    replicas: Axis
    model: Axis
    hosts: dist.ProcessGroup

    @property
    def first_stage(self) -> bool:
        """Whether this rank embeds tokens."""
        return self.pipeline.rank == 0

    @property
    def last_stage(self) -> bool:
        """Whether this rank computes logits and the loss."""
        return self.pipeline.rank == self.pipeline.size - 1

    @property
    def reports(self) -> bool:
        """Whether this rank writes the run's logs and metrics (global rank 0)."""
        return self.rank == 0
