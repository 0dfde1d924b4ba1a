"""Initialise and shut down the distributed job: each rank's device, and the process groups."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from trainer.errors import ClusterError, DeviceMissing, RecipeError
from trainer.parallel.layout import Layout
from trainer.parallel.loopback import ON_LOOPBACK, loopback_store
from trainer.recipe import Recipe

_PATIENCE = timedelta(minutes=30)


def choose_device(wanted: str) -> torch.device:
    """The device of this rank: `wanted` is "cpu", "cuda" or "auto" (CUDA where there is one).

    Raises RecipeError where CUDA is wanted and absent, DeviceMissing with more ranks than GPUs.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RecipeError("device: cuda asked for, but no CUDA device is visible; use device=cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        raise DeviceMissing(
            f"local rank {local_rank} has no GPU: this machine shows {torch.cuda.device_count()}; "
            "start fewer ranks a machine"
        )
    return torch.device("cuda", local_rank)


def visible_devices() -> int:
    """How many GPUs this process can see."""
    return torch.cuda.device_count()


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
            # Without tensor parallelism, one queue would delay copies behind the computation.
            os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
        torch.cuda.set_device(device)
    recipe.validate_world(int(os.environ.get("WORLD_SIZE", "1")), device.type)
    join_ranks(device.type)
    # Not before: megatron-core is imported here at the earliest.
    from trainer.parallel.megatron import form_groups

    return form_groups(recipe, device)


def join_ranks(device_type: str) -> None:
    """Meet the other ranks, over gloo on a "cpu" and NCCL on "cuda"; once a process."""
    if dist.is_initialized():
        return
    alone = "RANK" not in os.environ
    backend = "gloo" if device_type == "cpu" else "nccl"
    try:
        if alone:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        elif ON_LOOPBACK in os.environ:
            rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            store = loopback_store(rank, world, _PATIENCE)
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE
            )
        else:
            dist.init_process_group(backend, timeout=_PATIENCE)
    except (dist.DistNetworkError, dist.DistStoreError, RuntimeError) as error:
        address = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        reason = str(error).splitlines()[0]
        raise ClusterError(
            f"the ranks cannot meet at {address}: {reason}; if the port is in use, set MASTER_PORT "
            "to a free one"
        ) from error


def job_store() -> dist.Store:
    """The store that all ranks of the job share, after `create_layout`."""
    store: dist.Store = dist.distributed_c10d._get_default_store()
    return store


def meeting_store() -> dist.Store:
    """The store at which the ranks meet, which the first one holds, for whoever is no rank of it.

    Raises RuntimeError where it is not there in time.
    """
    return dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=_PATIENCE,
        wait_for_workers=False,
    )


@contextmanager
def as_one_process() -> Iterator[None]:
    """Inside the block this process forms layouts alone, whatever job it was started in."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def barrier(device: torch.device, group: dist.ProcessGroup | None = None) -> None:
    """Wait for all ranks of `group` (None: of the job); `device` is this rank's.

    Before its first other collective NCCL takes the device of the global rank's number, which may
    be another rank's, and both then hang. init_process_group's device_id would tell it too, but
    ranks hang with it (DECISIONS.md).
    """
    dist.barrier(group, device_ids=[device.index] if device.type == "cuda" else None)


def leave() -> None:
    """Destroy all process groups; the process can create another layout afterwards."""
    from trainer.parallel.megatron import dissolve_groups

    dissolve_groups()
    if dist.is_initialized():
        dist.destroy_process_group()
