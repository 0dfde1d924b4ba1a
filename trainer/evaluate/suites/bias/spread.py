"""Fewer items than there are, spread over a suite's forms and categories."""

import random
from collections import defaultdict
from collections.abc import Sequence

from trainer.evaluate.suites.suite import Item


def spread(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """At most `limit` items, in their order: as many of each kind as there can be.

    A kind is a form of a category, all controls of a form together; which items of a kind, is drawn
    by the seed, and a higher limit adds to what a lower one draws.
    """
    if limit is None or limit >= len(items):
        return list(items)
    kinds: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        kind = "control" if item.shown.get("control") else item.shown["category"]
        kinds[item.shown["form"], kind].append(index)
    draws = random.Random(seed)
    for indices in kinds.values():
        draws.shuffle(indices)
    ranked = [
        (rank, order, index)
        for order, indices in enumerate(kinds.values())
        for rank, index in enumerate(indices)
    ]
    return [items[index] for index in sorted(index for _, _, index in sorted(ranked)[:limit])]
