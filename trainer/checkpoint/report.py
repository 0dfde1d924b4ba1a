"""`lyceum checkpoint ls|verify|prune|diff`: what a person sees of a run's checkpoints."""

from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.checkpoint.diff import diff_checkpoints
from trainer.checkpoint.rotate import list_checkpoints, resolve_checkpoint, rotate
from trainer.checkpoint.verify import verify_checkpoint
from trainer.errors import CheckpointError, RecipeError

_LARGEST_SHOWN = 20


def list_command(run: Path, console: Console | None = None) -> None:
    """Print a run's checkpoints: step, size, time, and what is wrong with a damaged one.

    Raises CheckpointError where the run directory does not exist.
    """
    listed = list_checkpoints(_existing(run))
    table = Table("checkpoint", "size", "saved", "state", box=None, pad_edge=False)
    for c in listed:
        saved = datetime.fromtimestamp(c.saved_seconds).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(c.path.name, _size(c.bytes), saved, "damaged" if c.problem else "complete")
    _print(console, table if listed else f"run {run} has no checkpoints")
    for c in listed:
        if c.problem:
            _print(console, c.problem)


def verify_command(path: Path, console: Console | None = None) -> None:
    """Read all of a checkpoint (or of a run's newest good one) and print whether it is whole.

    Raises CheckpointError naming the first fault, after printing all of several.
    """
    path = Path(path)
    folder = resolve_checkpoint(path) if (path / "checkpoints").is_dir() else path
    faults = verify_checkpoint(folder)
    if not faults:
        _print(console, f"checkpoint {folder} is complete and unaltered")
        return
    for fault in faults if len(faults) > 1 else ():
        _print(console, fault)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise CheckpointError(f"{faults[0]}{more}; do not use checkpoint {folder}")


def prune_command(run: Path, keep: int, console: Console | None = None) -> None:
    """Remove all but the newest `keep` good checkpoints of a run, and print which went.

    Raises RecipeError where `keep` is below 1, CheckpointError where the run does not exist.
    """
    if keep < 1:
        raise RecipeError(f"checkpoint prune: cannot keep {keep}; keep 1 or more")
    removed = rotate(_existing(run), keep)
    for path in removed:
        _print(console, f"removed {path}")
    _print(console, f"{len(removed)} removed, {len(list_checkpoints(run))} left")


def diff_command(a: Path, b: Path, console: Console | None = None) -> None:
    """Print what differs between two checkpoints (or two runs' newest good ones).

    Raises CheckpointError where one of them is missing or damaged.
    """
    difference = diff_checkpoints(resolve_checkpoint(a), resolve_checkpoint(b))
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
