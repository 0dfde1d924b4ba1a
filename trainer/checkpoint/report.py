"""`lyceum checkpoint ls|verify|prune|diff`: a run's checkpoints listed, checked and compared."""

import difflib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.checkpoint.files import verify_checkpoint
from trainer.checkpoint.folders import (
    ListedCheckpoint,
    damaged_behind,
    latest_checkpoint,
    list_checkpoints,
    resolve_checkpoint,
    rotate,
)
from trainer.checkpoint.marks import course_given_up, mark_damaged
from trainer.checkpoint.merge_record import read_merge
from trainer.errors import CheckpointError, RecipeError
from trainer.hub.foreign import checkpoint_of

if TYPE_CHECKING:
    from trainer.checkpoint.read import CheckpointReader

_ROWS_ELEMENTS = 1 << 24
"""Elements compared at once: a bound on memory."""


@dataclass(frozen=True)
class CheckpointDifference:
    """The outcome of a comparison of checkpoint a with b.

    `only_a`, `only_b`: the keys of tensors that only one of them holds. `largest`: the maximum
    absolute difference of each tensor that both hold in the same shape (infinite where only one of
    them is not finite). `shapes`, `counters`, `model`: the values in a and in b of what differs
    (None: absent). `recipe`: a unified diff, line by line.
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
    """Compare two checkpoints, each saved at any layout; in bounded memory.

    Raises CheckpointError where one of them is not complete, or damaged.
    """
    from trainer.checkpoint.read import CheckpointReader

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


def _largest(first: "CheckpointReader", second: "CheckpointReader", key: str) -> float:
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
    first: "CheckpointReader",
    second: "CheckpointReader",
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


def _recipe(reader: "CheckpointReader") -> list[str]:
    if "recipe.yaml" not in reader.attachments():
        return []
    return reader.attachment("recipe.yaml").decode(errors="replace").splitlines()


_LARGEST_SHOWN = 20


def list_command(run: Path, console: Console | None = None) -> None:
    """Print a run's checkpoints: step, size, time, state, what a merged one is made of, and what is
    wrong with a damaged one.

    Raises CheckpointError where the run directory does not exist.
    """
    listed = list_checkpoints(_existing(run))
    table = Table("checkpoint", "size", "saved", "state", box=None, pad_edge=False)
    for c in listed:
        saved = datetime.fromtimestamp(c.saved_seconds).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(c.path.name, _size(c.bytes), saved, _state(c))
    _print(console, table if listed else f"run {run} has no checkpoints")
    for average in list_checkpoints(Path(run) / "average"):
        _print(console, f"the average of its weights, after step {average.step}: {run}/average")
    for c in listed:
        if line := c.problem or _merged_of(c.path):
            _print(console, line)


def _merged_of(folder: Path) -> str | None:
    """What a checkpoint is merged of, or why that cannot be read; None where it is not merged."""
    try:
        record = read_merge(folder)
    except CheckpointError as error:
        return str(error)
    return None if record is None else f"{folder.name} is merged: {record.line}"


def _state(listed: ListedCheckpoint) -> str:
    whole = "complete" if listed.settled else "complete, not settled yet"
    if listed.problem:
        whole = "given up" if course_given_up(listed.path) else "damaged"
    return f"{whole}, the best" if listed.best else whole


def verify_command(path: Path, console: Console | None = None) -> None:
    """Read all of a checkpoint (or of a run's newest good one) and print whether it is intact.

    Of a merged one also what it is made of, and whether that is still there. Raises CheckpointError
    naming the first fault, after printing all of several, and where a run has a newer one that is
    damaged.
    """
    path = Path(path)
    folder = resolve_checkpoint(path) if (path / "checkpoints").is_dir() else path
    faults = verify_checkpoint(folder)
    newer = damaged_behind(path, folder) if folder != path else []
    if not faults:
        _print(console, f"checkpoint {folder} is complete and unaltered")
        if record := read_merge(folder):
            _print(console, f"it is merged: {record.line}")
            for parent in record.parents:
                _print(console, f"{parent.checkpoint} is {parent.found()}")
        if newer:
            raise CheckpointError(f"{newer[-1]}; a resume would go on from {folder.name}")
        return
    for fault in faults if len(faults) > 1 else ():
        _print(console, fault)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise CheckpointError(f"{faults[0]}{more}; do not use checkpoint {folder}")


def prune_command(run: Path, keep: int, console: Console | None = None) -> None:
    """Remove all but the newest `keep` good checkpoints of a run, and print which went.

    The newest good one is read whole first, and where it is damaged the one before: the last sound
    one is never removed. Raises RecipeError where `keep` is below 1, CheckpointError where the run
    does not exist.
    """
    if keep < 1:
        raise RecipeError(f"checkpoint prune: cannot keep {keep}; keep 1 or more")
    _require_sound(_existing(run))
    removed = rotate(run, keep)
    for path in removed:
        _print(console, f"removed {path}")
    _print(console, f"{len(removed)} removed, {len(list_checkpoints(run))} left")


def _require_sound(run: Path) -> None:
    """Mark damaged checkpoints, newest first, until one is sound."""
    while (newest := latest_checkpoint(run)) is not None:
        faults = verify_checkpoint(newest)
        if not faults:
            return
        mark_damaged(newest, faults[0])


def diff_command(a: Path, b: Path, console: Console | None = None) -> None:
    """Print what differs between two checkpoints (or two runs' newest good ones).

    Raises CheckpointError where one of them is missing or damaged.
    """
    folders = resolve_checkpoint(a), resolve_checkpoint(b)
    for name, folder in zip(("first", "second"), folders, strict=True):
        if record := read_merge(folder):
            _print(console, f"the {name} is merged: {record.line}")
    difference = diff_checkpoints(*folders)
    if difference.same:
        _print(
            console, f"{len(difference.largest)} tensors, counters, model and recipe are the same"
        )
        return
    for name, keys in (("first", difference.only_a), ("second", difference.only_b)):
        for key in keys:
            _print(console, f"only in the {name}: {key}")
    for key, (first, second) in difference.shapes.items():
        _print(console, f"{key}: shape {list(first)} and {list(second)}")
    for title, values in (("counter", difference.counters), ("model", difference.model)):
        for key, (one, other) in values.items():
            _print(console, f"{title} {key}: {one} and {other}")
    for line in difference.recipe:
        _print(console, f"recipe {line}")
    if any(difference.largest.values()):
        _print(console, _tensors(difference.largest))


def _tensors(largest: dict[str, float]) -> Table:
    """The tensors that differ most, largest difference first."""
    differing = sorted(((v, key) for key, v in largest.items() if v), reverse=True)
    shown = differing[:_LARGEST_SHOWN]
    title = f"{len(differing)} of {len(largest)} tensors differ"
    if len(shown) < len(differing):
        title += f"; the {len(shown)} that differ most"
    table = Table("tensor", "largest difference", title=title, title_justify="left", box=None)
    for value, key in shown:
        table.add_row(Text(key), f"{value:.3g}")
    return table


def _existing(run: Path) -> Path:
    if other := checkpoint_of(Path(run)):
        raise CheckpointError(f"{run} {other}")
    if not Path(run).is_dir():
        raise CheckpointError(f"run {run} does not exist; name a run directory")
    return Path(run)


def _print(console: Console | None, what: Table | str) -> None:
    console = console or Console()
    console.print(what, markup=False, highlight=False, soft_wrap=True)


def _size(size: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if size >= 1 << power:
            return f"{size / (1 << power):.2f} {unit}"
    return f"{size / 1024:.2f} KiB"
