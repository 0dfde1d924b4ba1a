"""What stays of a list of which only some may stay: as much of each kind as of every other."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from trainer.evaluate.occurrence_buckets import shared_out

_Held = TypeVar("_Held")


def evenly(
    held: Sequence[_Held],
    limit: int,
    kinds: Sequence[Callable[[_Held], str]],
    order: Callable[[_Held], bytes],
) -> list[_Held]:
    """`limit` of what is held, shared out among the first of `kinds`, within each among the next.

    Within the last, those whose `order` comes first stay.
    """
    if limit >= len(held):
        return list(held)
    if not kinds:
        return sorted(held, key=order)[:limit]
    groups: defaultdict[str, list[_Held]] = defaultdict(list)
    for one in sorted(held, key=order):
        groups[kinds[0](one)].append(one)
    # What does not share out whole goes to the groups in the order of their own first draws.
    members = list(groups.values())
    shares = shared_out(limit, [len(group) for group in members])
    return [
        one
        for group, share in zip(members, shares, strict=True)
        for one in evenly(group, share, kinds[1:], order)
    ]
