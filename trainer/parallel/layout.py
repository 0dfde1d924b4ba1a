"""Where this rank stands: device, coordinates on the parallel axes, and the groups it talks to."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from trainer.errors import ClusterError, RecipeError
from trainer.recipe import Recipe


@dataclass(frozen=True)
class Axis:
    """One parallel axis: this rank's place on it, its size, and the group of ranks along it."""

    rank: int
    size: int
    group: dist.ProcessGroup


@dataclass(frozen=True)
class Layout:
    """This rank's coordinates. Ranks are numbered tensor fastest, then context, data, pipeline.

    `replicas` holds the ranks with the same weights (data x context): gradients are reduced and
    optimizer state is sharded over it. `model` holds the ranks that make up one copy of the model
    (tensor x pipeline). `hosts` holds all ranks, and exchanges tensors in host memory: what the
    hosts know already is agreed on without asking the devices.
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
        """Whether this rank speaks for the run (global rank 0)."""
        return self.rank == 0


def choose_device(wanted: str) -> torch.device:
    """The device of this rank: `wanted` is "cpu", "cuda" or "auto" (CUDA where there is one)."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RecipeError("device: cuda asked for, but no CUDA device is visible; use device=cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        raise ClusterError(
            f"local rank {local_rank} has no GPU: this machine shows {torch.cuda.device_count()}; "
            "start fewer ranks a machine"
        )
    return torch.device("cuda", local_rank)


def create_layout(recipe: Recipe) -> Layout:
    """Join the other ranks (torchrun's environment variables, or alone) and form every group.

    Raises RecipeError where the recipe does not fit the world size, ClusterError where the ranks
    cannot meet (an occupied port, an unreachable address).
    """
    device = choose_device(recipe.device)
    if device.type == "cpu":
        from trainer.parallel.cpu import use_cpu

        use_cpu()
    else:
        if recipe.parallel.tensor > 1:
            # megatron-core overlaps exchanges with products only where one queue keeps their order.
            # Elsewhere it would hold back copies to the host beside the computation.
            os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
        torch.cuda.set_device(device)
    recipe.validate_world(int(os.environ.get("WORLD_SIZE", "1")), device.type)
    _join(device)
    from trainer.parallel.megatron import form_groups

    return form_groups(recipe, device)


def _join(device: torch.device) -> None:
    if dist.is_initialized():
        return
    alone = "RANK" not in os.environ
    backend = "gloo" if device.type == "cpu" else "nccl"
    try:
        if alone:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        else:
            dist.init_process_group(backend, timeout=timedelta(minutes=30))
    except (dist.DistNetworkError, dist.DistStoreError, RuntimeError) as error:
        address = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        reason = str(error).splitlines()[0]
        raise ClusterError(
            f"the ranks cannot meet at {address}: {reason}; if the port is in use, set MASTER_PORT "
            "to a free one"
        ) from error


def leave() -> None:
    """Part from the other ranks; the process can create another layout afterwards."""
    from trainer.parallel.megatron import dissolve_groups

    dissolve_groups()
    if dist.is_initialized():
        dist.destroy_process_group()
