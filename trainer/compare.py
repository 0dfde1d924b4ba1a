"""`lyceum compare`: the losses of two runs side by side, step by step."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.errors import DataError, GateError
from trainer.parsing import read_json

TOLERANCE = 1e-5
"""Nats: what a right layout keeps over the first steps from a common state (the parity tests)."""
FIGURES = ("loss", "grad_norm")
_ROWS = 20

Steps = dict[int, dict[str, float | None]]
"""Of each step, by its number, its FIGURES: None where it was skipped; they may be NaN too."""


@dataclass(frozen=True)
class StepPair:
    """A figure of both runs at one step; None where that run skipped it, and it may be NaN."""

    step: int
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """Second less first; None unless both are there and finite."""
        first, second = _finite(self.first), _finite(self.second)
        return None if first is None or second is None else second - first

    @property
    def distance(self) -> float:
        """How far apart they are: infinite where one alone is finite, 0 where neither is."""
        if self.difference is not None:
            return abs(self.difference)
        return 0.0 if _finite(self.first) is _finite(self.second) else math.inf


@dataclass(frozen=True)
class FigureComparison:
    """One figure over the steps that both runs have."""

    figure: str
    tolerance: float
    pairs: Sequence[StepPair]
    """In order of their steps; never empty."""

    @property
    def measured(self) -> list[StepPair]:
        """The steps where the figure of both runs is finite."""
        return [pair for pair in self.pairs if pair.difference is not None]

    @property
    def one_sided(self) -> list[int]:
        """The steps where it is finite in one run alone: the other skipped them, or diverged."""
        return [pair.step for pair in self.pairs if math.isinf(pair.distance)]

    @property
    def same(self) -> int:
        """At how many steps both have it, finite and bitwise the same."""
        return sum(pair.difference == 0.0 for pair in self.measured)

    @property
    def largest(self) -> StepPair:
        """Where it differs most, the first of several; `measured` must not be empty."""
        return max(self.measured, key=lambda pair: pair.distance)

    @property
    def mean(self) -> float:
        """The mean distance; `measured` must not be empty."""
        return math.fsum(pair.distance for pair in self.measured) / len(self.measured)

    @property
    def first_different(self) -> StepPair | None:
        """The first step where it differs at all."""
        return next((pair for pair in self.pairs if pair.distance > 0.0), None)

    @property
    def first_beyond(self) -> StepPair | None:
        """The first step where it differs by more than the tolerance."""
        return next((pair for pair in self.pairs if pair.distance > self.tolerance), None)

    def as_json(self) -> dict[str, Any]:
        """What `lyceum compare --json` writes of it."""
        summary: dict[str, Any] = {
            "compared": len(self.measured),
            "bitwise_the_same": self.same,
            "in_one_run_only": self.one_sided,
            "first_different_step": _step(self.first_different),
            "first_step_beyond_tolerance": _step(self.first_beyond),
        }
        if self.measured:
            summary |= {
                "largest": self.largest.distance,
                "largest_step": self.largest.step,
                "mean": self.mean,
                "last": self.measured[-1].difference,
                "last_step": self.measured[-1].step,
            }
        return summary


@dataclass(frozen=True)
class RunComparison:
    """Two runs, compared."""

    runs: tuple[Path, Path]
    steps: tuple[list[int], list[int]]
    """The steps of each run, ascending."""
    loss: FigureComparison
    grad_norm: FigureComparison

    @property
    def only(self) -> tuple[list[int], list[int]]:
        """The steps that one run alone has, of each run."""
        first, second = map(set, self.steps)
        return sorted(first - second), sorted(second - first)

    def as_json(self) -> dict[str, Any]:
        """What `lyceum compare --json` writes: summaries, and every step."""
        return {
            "runs": [
                {"path": str(run), "steps": len(steps), "first": steps[0], "last": steps[-1]}
                for run, steps in zip(self.runs, self.steps, strict=True)
            ],
            "tolerance": self.loss.tolerance,
            "steps_in_one_run_only": list(self.only),
            "loss": self.loss.as_json(),
            "grad_norm": self.grad_norm.as_json(),
            "steps": [
                {
                    "step": loss.step,
                    "loss": [_finite(loss.first), _finite(loss.second)],
                    "loss_difference": loss.difference,
                    "grad_norm": [_finite(norm.first), _finite(norm.second)],
                    "grad_norm_difference": norm.difference,
                }
                for loss, norm in zip(self.loss.pairs, self.grad_norm.pairs, strict=True)
            ],
        }


def compare_runs(first: Path, second: Path, tolerance: float = TOLERANCE) -> RunComparison:
    """Compare two runs, each a run directory or a metrics.jsonl.

    Raises DataError where metrics are missing or damaged, or no step has a finite loss in both.
    """
    a, b = read_steps(first), read_steps(second)
    common = sorted(a.keys() & b.keys())
    if not common:
        raise DataError(
            f"no step is in both runs: {first} has {_ranges(list(a))}, {second} {_ranges(list(b))}"
        )
    loss, grad_norm = (
        FigureComparison(
            figure, tolerance, [StepPair(step, a[step][figure], b[step][figure]) for step in common]
        )
        for figure in FIGURES
    )
    if not loss.measured:
        raise DataError(
            f"no step has a finite loss in both {first} and {second}: all were skipped or are not"
            " finite"
        )
    return RunComparison((first, second), (sorted(a), sorted(b)), loss, grad_norm)


def read_steps(run: Path) -> Steps:
    """The figures of a run's steps, out of its directory or a metrics.jsonl itself.

    A last line cut short, as of a run at work, is left out. Raises DataError naming any other line
    that is no record of a step, or a step out of order.
    """
    path = run / "metrics.jsonl" if run.is_dir() else run
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; give a run directory or its metrics.jsonl"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    steps: Steps = {}
    before = 0
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith(b"\n"):
            break
        try:
            step, figures = _record(line)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise DataError(
                f"{path}, line {number}: no record of a step; give the metrics.jsonl of a run"
            ) from None
        if step <= before:
            raise DataError(f"{path}, line {number}: step {step} stands after step {before}")
        steps[step], before = figures, step
    if not steps:
        raise DataError(f"{path}: no step is finished yet; compare when some are")
    return steps


def _record(line: bytes) -> tuple[int, dict[str, float | None]]:
    record = read_json(line)
    step = record["step"]
    if type(step) is not int or step < 1:
        raise ValueError(f"step {step!r}")
    return step, {"loss": _number(record["loss"]), "grad_norm": _number(record.get("grad_norm"))}


def _number(value: Any) -> float | None:
    if isinstance(value, bool | str):
        raise TypeError(f"{value!r} is no number")
    return None if value is None else float(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def check(compared: RunComparison) -> None:
    """Raise GateError where a loss differs by more than the tolerance."""
    beyond = compared.loss.first_beyond
    if beyond is not None:
        raise GateError(
            f"losses differ by more than {compared.loss.tolerance:g}, first at step {beyond.step}:"
            f" {_loss(beyond.first)} and {_loss(beyond.second)}"
        )


def show(compared: RunComparison) -> None:
    """Print the summary, and up to 20 steps where the losses differ."""
    console = Console(highlight=False)
    runs = zip(("first", "second"), compared.runs, compared.steps, compared.only, strict=True)
    for name, run, steps, only in runs:
        alone = f"; in this run only: {_ranges(only)}" if only else ""
        line = f"{name}: {run}, {_counted(len(steps))}, {_ranges(steps)}{alone}"
        console.print(line, markup=False, soft_wrap=True)
    if compared.loss.one_sided:
        pairs = [pair for pair in compared.loss.pairs if math.isinf(pair.distance)]
        skipped = [pair.step for pair in pairs if None in (pair.first, pair.second)]
        diverged = [pair.step for pair in pairs if None not in (pair.first, pair.second)]
        for said, steps in (("skipped", skipped), ("not finite", diverged)):
            if steps:
                console.print(f"{said} in one run only: {_ranges(steps)}")
    console.print()
    console.print(_summary(compared))
    if compared.loss.first_different is None:
        count = len(compared.loss.measured)
        same = "1 loss is" if count == 1 else f"all {count} losses are"
        console.print(f"{same} bitwise the same")
        return
    shown = _shown(compared.loss)
    console.print()
    console.print(_steps(compared, shown))
    if len(shown) < len(compared.loss.pairs):
        console.print(f"{len(shown)} of {len(compared.loss.pairs)} steps; --json FILE holds all")


def _summary(compared: RunComparison) -> Table:
    beyond = f"beyond {compared.loss.tolerance:g}"
    table = Table(
        "", "same bits", "largest", "at step", "mean", "last", beyond, box=None, pad_edge=False
    )
    for comparison in (compared.loss, compared.grad_norm):
        if not comparison.measured:
            table.add_row(comparison.figure, "in no step of both")
            continue
        first = comparison.first_beyond
        table.add_row(
            comparison.figure,
            f"{comparison.same} of {len(comparison.measured)}",
            f"{comparison.largest.distance:.3g}",
            str(comparison.largest.step) if comparison.largest.difference else "-",
            f"{comparison.mean:.3g}",
            _signed(comparison.measured[-1]),
            f"from step {first.step}" if first else "never",
        )
    return table


def _steps(compared: RunComparison, shown: Iterable[int]) -> Table:
    norms = compared.grad_norm.pairs
    table = Table(box=None, pad_edge=False)
    for title in ("step", "loss of first", "of second", "difference", "of grad_norm"):
        table.add_column(title, justify="right")
    for index in shown:
        pair = compared.loss.pairs[index]
        losses = map(_loss, (pair.first, pair.second))
        table.add_row(str(pair.step), *losses, _signed(pair), _signed(norms[index]))
    return table


def _shown(comparison: FigureComparison) -> list[int]:
    """Positions of the steps to print: spread evenly, with those that the summary speaks of."""
    count = len(comparison.pairs)
    if count <= _ROWS:
        return list(range(count))
    landmarks = (comparison.first_different, comparison.first_beyond, comparison.largest)
    named = {comparison.pairs.index(pair) for pair in landmarks if pair is not None}
    even = {round(n * (count - 1) / (_ROWS - 4)) for n in range(_ROWS - 3)}
    return sorted(named | even)


def _loss(loss: float | None) -> str:
    if loss is None:
        return "skipped"
    return f"{loss:.9g}" if math.isfinite(loss) else "not finite"


def _signed(pair: StepPair) -> str:
    if pair.difference is None:
        return "-"
    return f"{pair.difference:+.3g}" if pair.difference else "same"


def _step(pair: StepPair | None) -> int | None:
    return None if pair is None else pair.step


def _counted(count: int) -> str:
    return f"{count:,} step" + ("" if count == 1 else "s")


def _ranges(steps: Sequence[int]) -> str:
    """Steps as a person says them: 1 to 20, 25."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and step == runs[-1][1] + 1:
            runs[-1][1] = step
        else:
            runs.append([step, step])
    said = [str(a) if a == b else f"{a} to {b}" for a, b in runs]
    more = [f"and {len(said) - 8} more ranges"] if len(said) > 9 else said[8:]
    return ", ".join([*said[:8], *more])
