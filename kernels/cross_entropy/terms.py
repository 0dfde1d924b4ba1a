"""The loss's settings, and the slice of the vocabulary that a rank holds."""

from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor

IGNORE = -100
"""The label of a token that is not supervised, such as padding."""


class Terms(NamedTuple):
    """The loss's settings, as custom operators take them."""

    group: str
    """Name of the process group that the vocabulary is sharded over; empty: none."""
    ignore_index: int
    label_smoothing: float
    z_loss: float

    @property
    def plain(self) -> bool:
        """Whether the loss is the plain cross entropy."""
        return not (self.label_smoothing or self.z_loss)

    @property
    def statistics(self) -> int:
        """Numbers a row beside its loss: the highest logit, log2 of the sum of exponentials above
        it, and where the loss is not `plain`, the plain cross entropy.
        """
        return 2 if self.plain else 3


def group_name(group: dist.ProcessGroup | None) -> str:
    """The value of `Terms.group` for a process group, or for None or a group of one rank."""
    return group.group_name if group is not None and group.size() > 1 else ""


def slice_of(terms: Terms, width: int) -> tuple[int, int]:
    """(the first id of this rank's slice of that width, the whole vocabulary)."""
    if not terms.group:
        return 0, width
    group = _group(terms)
    return group.rank() * width, group.size() * width


def gather(packed: Tensor, terms: Terms) -> Tensor:
    """All-gather `packed`, contiguous, over the group: [ranks, *packed.shape], the same dtype."""
    group = _group(terms)
    gathered = packed.new_empty((group.size(), *packed.shape))
    # Flat: gloo gathers along the first dimension only.
    dist.all_gather_into_tensor(gathered.view(-1), packed.view(-1), group=group)
    return gathered


def _group(terms: Terms) -> dist.ProcessGroup:
    # Custom operators take strings, not groups; PyTorch's own collectives find theirs so too.
    resolve: Any = dist.distributed_c10d._resolve_process_group
    group: dist.ProcessGroup = resolve(terms.group)
    return group
