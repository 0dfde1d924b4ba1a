"""Trace a batch of `stage: reinforce` back to the questions that were asked, and the answers."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainer.errors import DataError, RecipeError
from trainer.recipe import Recipe
from trainer.stages.answer_rows import positions_of
from trainer.stages.sampled_answers import (
    SAMPLES,
    SampledAnswer,
    answers_of,
    of_update,
    samples_of_step,
)

COLUMNS = ("row", "positions", "question", "outcome", "reward", "advantage", "answer")


def answers_of_step(run: Path, recipe: Recipe, step: int) -> tuple[int, list[SampledAnswer]]:
    """The first step that was made of the same sampling, and the answers that `step` learned from.

    Raises DataError where the sampling's file is gone or damaged.
    """
    section = recipe.reinforce
    found = samples_of_step(run, step, section.lag)
    if found is None:
        raise DataError(
            f"{run / SAMPLES} has no answers that step {step} learned from: it was not made yet, or"
            " they were deleted"
        )
    first, path = found
    answers = answers_of(path.read_bytes(), str(path))
    return first, of_update(answers, (step - first) % section.updates)


def trace_answers(run: Path, recipe: Recipe, step: int, row: int | None = None) -> None:
    """Print the answers that a step (from 1) learned from, or those of one row (from 0).

    Raises DataError where they are gone, RecipeError for a row that the step does not have.
    """
    first, answers = answers_of_step(run, recipe, step)
    rows = max(answer.row for answer in answers) + 1
    if row is not None and not 0 <= row < rows:
        raise RecipeError(f"no row {row} in step {step} of {run}: rows are 0 .. {rows - 1}")
    table = Table(title=f"{run}, step {step}, sampled before step {first}", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name == "row" else "left", overflow="fold")
    for answer in sorted(answers, key=lambda one: (one.row, one.start)):
        if row is None or answer.row == row:
            table.add_row(
                str(answer.row),
                f"{answer.start}-{answer.start + positions_of(answer) - 1}",
                escape(answer.question),
                answer.outcome,
                f"{answer.reward:.4g}",
                f"{answer.advantage:.4g}",
                # A printed table has no room for line breaks, nor markup in a text.
                escape(" ".join(answer.text.split())),
            )
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)  # A file or a pipe has no edge to fold at.
    console.print(table)
