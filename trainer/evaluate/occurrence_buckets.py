"""Numbers of occurrences in a corpus, in the groups by which figures are given."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from trainer.evaluate.suites.suite import FigureKind, ItemRecord

BUCKETS = {
    "1": range(1, 2),
    "2": range(2, 3),
    "3_to_5": range(3, 6),
    "6_to_20": range(6, 21),
    "over_20": range(21, 1 << 62),
}
"""The groups by name, as in figures: `accuracy_3_to_5`."""


def bucket_of(occurrences: int) -> str | None:
    """The name of the group that a number of occurrences is in; None for 0."""
    return next((name for name, numbers in BUCKETS.items() if occurrences in numbers), None)


def shared_out(limit: int, sizes: Sequence[int]) -> list[int]:
    """How many of each group to take, `limit` in all, as evenly as the groups' sizes let."""
    counts, left = [0] * len(sizes), limit
    smallest_first = sorted(range(len(sizes)), key=lambda group: sizes[group])
    for position, group in enumerate(smallest_first):
        counts[group] = min(sizes[group], left // (len(sizes) - position))
        left -= counts[group]
    return counts


def by_bucket(
    name: str, kind: FigureKind, bucket: Callable[[ItemRecord], str | None]
) -> dict[str, FigureKind]:
    """The figure `name` over all items, and `NAME_BUCKET` over those of each group."""

    def row(group: str, record: ItemRecord) -> Sequence[float] | None:
        return kind.row(record) if bucket(record) == group else None

    return {name: kind} | {
        f"{name}_{group}": replace(
            kind,
            means=f"{kind.means}, {group.replace('_', ' ')} times in the corpus",
            row=partial(row, group),
        )
        for group in BUCKETS
    }
