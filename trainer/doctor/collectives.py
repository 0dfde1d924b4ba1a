"""Every collective that training uses, in every group of a layout."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.distributed as dist

from trainer.doctor.check import Check, check
from trainer.parallel.join import barrier
from trainer.parallel.layout import Axis, Layout
from trainer.parallel.megatron import embedding_group

AXES = ("tensor", "context", "data", "pipeline", "replicas", "model")

ELEMENTS = 1025
"""A rank's share; no power of 2."""


def check_collectives(layout: Layout) -> Iterator[Check]:
    """One check a collective and group, those between two ranks apart; on all ranks together."""
    wanted = "gloo" if layout.device.type == "cpu" else "nccl"
    for name, axis in _axes(layout):
        yield check(f"{name}: back end", partial(_backend, axis, wanted))
        for collective, run in COLLECTIVES.items():
            yield check(f"{name}: {collective}", partial(run, axis, layout.device))


def check_sending(layout: Layout) -> Iterator[Check]:
    """A batched send and receive in every group; alone, to itself, which a back end may refuse.

    To be checked last: where it hangs or breaks a group, nothing comes after it.
    """
    for name, axis in _axes(layout):
        send = partial(_send_and_receive, axis, layout.device)
        yield check(f"{name}: batched send and receive", send, may_refuse=axis.size == 1)


def _axes(layout: Layout) -> Iterator[tuple[str, Axis]]:
    world = dist.group.WORLD
    assert world is not None, "the ranks have met"
    yield "world", Axis(layout.rank, layout.world_size, world)
    for name in AXES:
        yield name, getattr(layout, name)
    group = embedding_group()
    if group is not None:
        yield "embedding", Axis(dist.get_rank(group), dist.get_world_size(group), group)


def _backend(axis: Axis, wanted: str) -> str:
    found = dist.get_backend(axis.group)
    if found != wanted:
        raise AssertionError(f"it is {found}, not {wanted}")
    return f"{found}, {axis.size} ranks"


def _own(axis: Axis, device: torch.device) -> torch.Tensor:
    """What this rank gives: its number in the group, from 1, times 1, 2, 3, ..."""
    return (axis.rank + 1) * torch.arange(1.0, ELEMENTS + 1, device=device)


def _held(found: torch.Tensor, right: torch.Tensor) -> str:
    if not torch.equal(found, right):
        raise AssertionError(f"off by {(found - right).abs().max().item():.3g}")
    return "equal to the sum by hand"


def _all_reduce(axis: Axis, device: torch.device) -> str:
    mine = _own(axis, device)
    right = mine / (axis.rank + 1) * (axis.size * (axis.size + 1) / 2)
    dist.all_reduce(mine, group=axis.group)
    return _held(mine, right)


def _all_gather(axis: Axis, device: torch.device) -> str:
    mine = _own(axis, device)
    found = mine.new_full((axis.size * ELEMENTS,), torch.nan)
    dist.all_gather_into_tensor(found, mine, group=axis.group)
    factors = torch.arange(1.0, axis.size + 1, device=device)
    return _held(found, torch.outer(factors, mine / (axis.rank + 1)).flatten())


def _reduce_scatter(axis: Axis, device: torch.device) -> str:
    whole = (axis.rank + 1) * torch.arange(1.0, axis.size * ELEMENTS + 1, device=device)
    found = whole.new_full((ELEMENTS,), torch.nan)
    dist.reduce_scatter_tensor(found, whole, group=axis.group)
    share = whole[axis.rank * ELEMENTS : (axis.rank + 1) * ELEMENTS] / (axis.rank + 1)
    return _held(found, share * (axis.size * (axis.size + 1) / 2))


def _broadcast(axis: Axis, device: torch.device) -> str:
    mine = _own(axis, device)
    right = mine / (axis.rank + 1)
    dist.broadcast(mine, dist.get_global_rank(axis.group, 0), group=axis.group)
    return _held(mine, right)


def _barrier(axis: Axis, device: torch.device) -> str:
    barrier(device, axis.group)
    return "passed"


def _send_and_receive(axis: Axis, device: torch.device) -> str:
    """To the next rank and from the one before, in one batch; alone, to itself."""
    mine = _own(axis, device)
    found = torch.full_like(mine, torch.nan)
    after = dist.get_global_rank(axis.group, (axis.rank + 1) % axis.size)
    before_rank = (axis.rank - 1) % axis.size
    before = dist.get_global_rank(axis.group, before_rank)
    operations = [
        dist.P2POp(dist.isend, mine, after, axis.group),
        dist.P2POp(dist.irecv, found, before, axis.group),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    _held(found, mine / (axis.rank + 1) * (before_rank + 1))
    return "received what was sent"


COLLECTIVES: dict[str, Callable[[Axis, torch.device], str]] = {
    "all_reduce": _all_reduce,
    "all_gather_into_tensor": _all_gather,
    "reduce_scatter_tensor": _reduce_scatter,
    "broadcast": _broadcast,
    "barrier": _barrier,
}
