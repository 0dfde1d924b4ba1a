"""What `lyceum bench train` shows: a table, what each was given, and a plot."""

from pathlib import Path

from rich.console import Console

from trainer.bench.clock import Timing
from trainer.bench.comparison import BARE, LoopComparison
from trainer.bench.display import can_draw, draw_bars, figure_of, save, table_of
from trainer.bench.peers.process import PeerResult
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe

_HEADS = ("", "tokens/s", "step s", "MFU", "of a matmul", "GiB", "1st step", "ours/it")


def print_report(recipe: Recipe, comparison: LoopComparison, made: bool) -> None:
    """The table, what each peer was given, and the two figures that count."""
    console = Console()
    rows = [(name, *_cells(comparison, timing)) for name, timing in _timings(comparison).items()]
    console.print(table_of(_title(recipe), _HEADS, rows))
    for peer in comparison.peers:
        console.print(f"{peer.name}: {_account(peer)}", markup=False, highlight=False)
    if not made and any(peer.name != BARE for peer in comparison.peers):
        console.print(
            "Rows of this corpus hold several documents: ours and bare mask them, the other peers"
            " attend over whole rows. With --made all do the same."
        )
    if comparison.cost is not None:
        lowest, highest = min(comparison.costs), max(comparison.costs)
        console.print(
            f"Our loop costs {comparison.cost:+.1%} over the bare one (median of "
            f"{len(comparison.costs)} alternating pairs, {lowest:+.1%} to {highest:+.1%})."
        )
    best = comparison.best_peer
    if best is not None and best.timing is not None:
        console.print(
            f"Best peer: {best.name}. {comparison.variant} / best peer in tokens a second:"
            f" {comparison.ratio(best.timing):.2f}"
        )


def _timings(comparison: LoopComparison) -> dict[str, Timing]:
    """Everyone who ran, ours first."""
    peers = {peer.name: peer.timing for peer in comparison.peers if peer.timing is not None}
    return comparison.variants | peers


def _title(recipe: Recipe) -> str:
    assert recipe.model.vocab is not None
    millions = parameter_count(recipe.model, recipe.model.vocab)["total"] / 1e6
    return (
        f"{recipe.run}: {millions:,.1f}M parameters, {recipe.batch.sequences} x"
        f" {recipe.sequence_length} tokens a step, micro {recipe.batch.micro}, {recipe.precision}"
    )


def _cells(comparison: LoopComparison, timing: Timing) -> list[str]:
    return [
        f"{timing.tokens_per_second:,.0f}",
        f"{timing.step_seconds:.4f}",
        "-" if timing.mfu is None else f"{timing.mfu:.1%}",
        f"{comparison.share(timing):.1%}",
        "-" if timing.memory_gib is None else f"{timing.memory_gib:.2f}",
        "-" if timing.compile_seconds is None else f"+{timing.compile_seconds:.1f} s",
        f"{comparison.ratio(timing):.2f}",
    ]


def _account(peer: PeerResult) -> str:
    """How it ran, or why not, in one line."""
    tried = [f"out of memory at micro {micro}" for micro in peer.out_of_memory]
    if peer.timing is None:
        return "; ".join([*tried[:-1], peer.problem or "it was not run"])
    given = [f"{key}: {value}" for key, value in peer.given.items()]
    return "; ".join([*tried, f"micro {peer.micro}", *given])


def plot(recipe: Recipe, comparison: LoopComparison, file: Path) -> None:
    """Draw tokens a second of everyone; without matplotlib only say so.

    Raises RecipeError where the file cannot be written.
    """
    if not can_draw():
        Console().print(f"{file}: not drawn, as matplotlib is not installed")
        return
    rates = {name: timing.tokens_per_second for name, timing in _timings(comparison).items()}
    figure = figure_of(8, 1.2 + 0.45 * len(rates))
    axes = figure.subplots()
    draw_bars(axes, rates, comparison.variants, "tokens a second", "{:,.0f}")
    axes.set_title(_title(recipe), fontsize="medium")
    save(figure, file)
