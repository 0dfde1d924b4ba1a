"""`lyceum bench train`: our loop against the bare one, on the same recipe, in alternating pairs."""

import dataclasses
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from trainer.bench.timing import TIMED_STEPS, Timing, time_bare, time_ours
from trainer.errors import RecipeError
from trainer.parallel.layout import choose_device
from trainer.recipe import Recipe


@dataclass(frozen=True)
class Comparison:
    """Medians over the pairs; `cost` is ours / bare - 1 of each pair, in time a step."""

    ours: Timing
    bare: Timing
    costs: tuple[float, ...]
    matrix_flops_per_second: float

    @property
    def cost(self) -> float:
        """The median cost of our loop."""
        return statistics.median(self.costs)

    @property
    def matrix_share(self) -> float:
        """Our model FLOP/s as a share of a large matrix product's, measured in the same run."""
        assert self.ours.flops_per_second is not None, "our loop counts its operations"
        return self.ours.flops_per_second / self.matrix_flops_per_second


def bench_command(recipe: Recipe, pairs: int, json_file: Path | None) -> None:
    """Print speed and memory of the recipe in one process, beside the bare loop's.

    Raises RecipeError for a recipe that needs more than one process, and what training raises.
    """
    device = choose_device(recipe.device)
    recipe.validate_world(1, device.type)
    comparison = compare(recipe, pairs, device)
    _print(recipe, comparison)
    if json_file is not None:
        figures = {
            **dataclasses.asdict(comparison),
            "cost": comparison.cost,
            "matrix_share": comparison.matrix_share,
            "steps_timed": TIMED_STEPS,
            "threads": torch.get_num_threads(),
        }
        try:
            json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"{json_file}: cannot be written: {error.strerror}") from error


def compare(recipe: Recipe, pairs: int, device: torch.device) -> Comparison:
    """Run `pairs` pairs, who goes first changing from pair to pair."""
    ours, bare = [], []
    for pair in range(pairs):
        if pair % 2:
            bare.append(time_bare(recipe, device))
        ours.append(time_ours(recipe))
        if not pair % 2:
            bare.append(time_bare(recipe, device))
    both = zip(ours, bare, strict=True)
    return Comparison(
        ours=_median(ours),
        bare=_median(bare),
        costs=tuple(one.step_seconds / other.step_seconds - 1 for one, other in both),
        matrix_flops_per_second=matrix_flops(device, recipe.precision),
    )


def matrix_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product in the recipe's precision: the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device).to(dtype)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading one number waits for all of them
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def _median(timings: list[Timing]) -> Timing:
    """Field by field."""
    values: dict[str, float | None] = {}
    for field in dataclasses.fields(Timing):
        known = [value for t in timings if (value := getattr(t, field.name)) is not None]
        values[field.name] = statistics.median(known) if known else None
    return Timing(**values)  # type: ignore[arg-type]


def _print(recipe: Recipe, comparison: Comparison) -> None:
    table = Table("", "ours", "bare", title=f"{recipe.run}: one process", title_justify="left")
    ours, bare = comparison.ours, comparison.bare
    table.add_row("step", f"{ours.step_seconds:.4f} s", f"{bare.step_seconds:.4f} s")
    table.add_row("tokens/s", f"{ours.tokens_per_second:,.0f}", f"{bare.tokens_per_second:,.0f}")
    table.add_row("memory", _gib(ours.memory_gib), _gib(bare.memory_gib))
    if ours.mfu is not None:
        table.add_row("MFU", f"{ours.mfu:.1%}", "")
    table.add_row("share of a matrix product", f"{comparison.matrix_share:.1%}", "")
    console = Console()
    console.print(table)
    lowest, highest = min(comparison.costs), max(comparison.costs)
    console.print(
        f"Our loop costs {comparison.cost:+.1%} over the bare one (median of "
        f"{len(comparison.costs)} alternating pairs, {lowest:+.1%} to {highest:+.1%})."
    )


def _gib(memory: float | None) -> str:
    return "-" if memory is None else f"{memory:.2f} GiB"
