"""What differs between two checkpoints: tensors, counters, the model, the recipe."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint.read import CheckpointReader

_ROWS_ELEMENTS = 1 << 24
"""Elements compared at once: a bound on memory."""


@dataclass(frozen=True)
class CheckpointDifference:
    """The outcome of a comparison of checkpoint a with b.

    `largest`: the maximum absolute difference of each tensor that both hold in one shape (infinite
    where only one of them is not finite). `shapes`, `counters`, `model`: the values in a and in b
    of what differs (None: absent). `recipe`: a unified diff, line by line.
    """

    only_a: list[str]
    only_b: list[str]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    largest: dict[str, float]
    counters: dict[str, tuple[Any, Any]]
    model: dict[str, tuple[Any, Any]]
    recipe: list[str]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        others = (self.only_a, self.only_b, self.shapes, self.counters, self.model, self.recipe)
        return not any(others) and not any(self.largest.values())


def diff_checkpoints(a: Path, b: Path) -> CheckpointDifference:
    """Compare two checkpoints, saved at whatever layouts; in bounded memory.

    Raises CheckpointError where one of them is not complete, or damaged.
    """
    first, second = CheckpointReader(a), CheckpointReader(b)
    keys_a, keys_b = set(first.keys()), set(second.keys())
    common = sorted(keys_a & keys_b)
    shapes = {
        key: (first.shape(key), second.shape(key))
        for key in common
        if first.shape(key) != second.shape(key)
    }
    return CheckpointDifference(
        only_a=sorted(keys_a - keys_b),
        only_b=sorted(keys_b - keys_a),
        shapes=shapes,
        largest={key: _largest(first, second, key) for key in common if key not in shapes},
        counters=_values(first.counters, second.counters),
        model=_values(first.model, second.model),
        recipe=list(difflib.unified_diff(_recipe(first), _recipe(second), lineterm="", n=0))[2:],
    )


def _largest(first: CheckpointReader, second: CheckpointReader, key: str) -> float:
    shape = first.shape(key)
    if not shape:
        return _apart(first, second, key, (), ())
    row = 1
    for size in shape[1:]:
        row *= size
    rows = max(1, _ROWS_ELEMENTS // max(1, row))
    zeros = (0,) * (len(shape) - 1)
    parts = (
        _apart(first, second, key, (at, *zeros), (min(rows, shape[0] - at), *shape[1:]))
        for at in range(0, shape[0], rows)
    )
    return max(parts, default=0.0)


def _apart(
    first: CheckpointReader,
    second: CheckpointReader,
    key: str,
    offset: tuple[int, ...],
    shape: tuple[int, ...],
) -> float:
    x, y = (reader.read(key, offset, shape).double() for reader in (first, second))
    apart = (x - y).abs()
    apart[(x == y) | (x.isnan() & y.isnan())] = 0.0  # infinities of one sign, or both not numbers
    return float(apart.nan_to_num(nan=float("inf")).max()) if apart.numel() else 0.0


def _values(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = sorted(a.keys() | b.keys())
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _recipe(reader: CheckpointReader) -> list[str]:
    if "recipe.yaml" not in reader.attachments():
        return []
    return reader.attachment("recipe.yaml").decode(errors="replace").splitlines()
