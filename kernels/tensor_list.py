"""Many tensors in one launch: a table of addresses on the device, and elements split into chunks.

A program processes one chunk. `Chunks` maps chunks to tensors; it depends on sizes only and is
built once. The addresses are gathered at every call, inside the operator, since gradients are new
tensors each step: 8 bytes a tensor over the bus, without a device sync.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.arguments import check, check_device, check_shape
from kernels.language import tl, triton
from kernels.launch import sent

CHUNK = 8192
"""Elements per program; a multiple of every block size."""


@dataclass(frozen=True)
class Chunks:
    """How a list of tensors is split into chunks; all fields on the device.

    `owner`: int32 [chunks], the index of each chunk's tensor; `first`: int64 [tensors], the index
    of each tensor's first chunk; `sizes`: int64 [tensors], in elements.
    """

    owner: Tensor
    first: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], device: torch.device) -> "Chunks":
        """The chunks of tensors with these numbers of elements."""
        counted = [-(-size // CHUNK) for size in sizes]
        counts = torch.tensor(counted, dtype=torch.int64)
        numbers = torch.arange(len(sizes), dtype=torch.int32)
        owner = numbers.repeat_interleave(counts, output_size=sum(counted))
        first = counts.cumsum(0) - counts
        lengths = torch.tensor(sizes, dtype=torch.int64)
        return cls(*(sent(table, device) for table in (owner, first, lengths)))


class TensorPlan:
    """How to launch over lists whose i-th tensors have equal shapes, all on one device.

    `lists`: by name, such as parameters and gradients. Depends on shapes, strides and dtypes, not
    on addresses. Raises ValueError where lengths, shapes or devices differ.
    """

    def __init__(self, lists: Mapping[str, Sequence[Tensor]]) -> None:
        _check_lists(lists)
        by_dtypes: dict[tuple[torch.dtype, ...], list[int]] = {}
        for index, beside in enumerate(zip(*lists.values(), strict=True)):
            by_dtypes.setdefault(tuple(x.dtype for x in beside), []).append(index)
        first = next(iter(lists.values()))
        self.buckets = [
            (indices, Chunks.of([first[i].numel() for i in indices], first[0].device))
            for indices in by_dtypes.values()
        ]
        """(indices, chunks) of the tensors of equal dtypes, which go into one launch."""


class TensorPlans:
    """A cache of TensorPlans, keyed by names, shapes, strides, dtypes and devices."""

    def __init__(self) -> None:
        self._plans: dict[Hashable, TensorPlan] = {}

    def of(
        self, lists: Mapping[str, Sequence[Tensor]], check_dtypes: Callable[[], None]
    ) -> TensorPlan:
        """The plan of these lists; `check_dtypes` is called before a new one is cached."""
        key = tuple(
            (name, *((x.shape, x.stride(), x.dtype, x.device) for x in tensors))
            for name, tensors in lists.items()
        )
        if key not in self._plans:
            plan = TensorPlan(lists)
            check_dtypes()
            self._plans[key] = plan
        return self._plans[key]


def _check_lists(lists: Mapping[str, Sequence[Tensor]]) -> None:
    like_name, like = next(iter(lists.items()))
    for name, tensors in lists.items():
        check(
            len(tensors) == len(like),
            f"{name}: has {len(tensors)} tensors, but {like_name} {len(like)}",
        )
        for index, tensor in enumerate(tensors):
            label = f"{name}[{index}]"
            check_device(label, tensor, f"{like_name}[0]", like[0])
            check_shape(label, tensor, like[index].shape, f"the shape of {like_name}[{index}]")


def addresses(lists: Sequence[Sequence[Tensor]]) -> Tensor:
    """Each tensor's data_ptr, int64 [lists, tensors], on the tensors' device."""
    table = torch.tensor([[x.data_ptr() for x in tensors] for tensors in lists])
    return sent(table, lists[0][0].device)


@triton.jit
def locate(owner, first, sizes, CHUNK: tl.constexpr):
    """This program's tensor, its chunk's first element there, and how many elements follow."""
    chunk = tl.program_id(0)
    tensor = tl.load(owner + chunk)
    start = (chunk - tl.load(first + tensor)) * CHUNK
    return tensor, start, tl.load(sizes + tensor) - start
