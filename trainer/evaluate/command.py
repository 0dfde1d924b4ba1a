"""`lyceum evaluate`: a checkpoint's figures."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainer.errors import RecipeError
from trainer.evaluate.opened import OpenedModel, open_model
from trainer.evaluate.perplexity import Perplexity, validation_bytes, validation_loss
from trainer.files import write_output
from trainer.sources import open_sources

EvaluationFigures = dict[str, float]


def evaluate_command(checkpoint: Path, suites: list[str], json_file: Path | None) -> None:
    """Print the figures of the named suites ([]: all), and write them to `json_file` if given.

    Collective over all started ranks. Raises RecipeError for an unknown suite, CheckpointError or
    DataError for a checkpoint or corpus that is missing or damaged.
    """
    chosen = suites or sorted(SUITES)
    for suite in chosen:
        if suite not in SUITES:
            raise RecipeError(f"no suite {suite!r}; known are: {', '.join(sorted(SUITES))}")
    with open_model(checkpoint, _world_size()) as model:
        results = {suite: SUITES[suite](model) for suite in chosen}
        if not model.layout.reports:
            return
        _print_results(model, results)
        if json_file is not None:
            report = {"checkpoint": str(model.folder), "step": model.step, "suites": results}
            write_output(json_file, report)


def perplexity(model: OpenedModel) -> EvaluationFigures:
    """The figures of `Perplexity` over the validation sequences of the run's own corpora."""
    recipe = model.recipe
    if recipe.stage_traits.reads_sets:
        # A set may have to be rendered again: the checkpoint's own tokenizer has the template.
        conversations = recipe.conversations.model_copy(update={"template": None})
        own = {"tokenizer": str(model.folder / "tokenizer"), "conversations": conversations}
        recipe = recipe.model_copy(update=own)
    elif recipe.tokenizer is not None:
        # The named one may be gone, and tars may have to be tokenised again.
        recipe = recipe.model_copy(update={"tokenizer": str(model.folder / "tokenizer")})
    sources = open_sources(recipe, tokenizer=model.tokenizer)
    loss = validation_loss(model.chunks, recipe, model.layout, sources)
    text_bytes = validation_bytes(recipe, sources)
    return dataclasses.asdict(Perplexity.of(loss, text_bytes))


SUITES: dict[str, Callable[[OpenedModel], EvaluationFigures]] = {"perplexity": perplexity}


def _print_results(model: OpenedModel, results: dict[str, EvaluationFigures]) -> None:
    table = Table(title=f"{model.folder}, step {model.step}", title_justify="left")
    table.add_column("suite")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for suite, figures in results.items():
        for name, value in figures.items():
            shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
            table.add_row(suite, name.replace("_", " "), shown)
    Console().print(table)


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
