"""`lyceum evaluate` and `lyceum generate`: a checkpoint's figures, and text that it generates."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainer.errors import RecipeError
from trainer.evaluate.generate import Generator, Sampling, Vocabulary
from trainer.evaluate.opened import OpenedModel, open_model
from trainer.evaluate.perplexity import Perplexity, validation_bytes, validation_loss
from trainer.evaluate.sampling import check_sampling
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


def generate_command(
    checkpoint: Path,
    prompt: str | None,
    prompts_file: Path | None,
    tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> None:
    """Print each prompt with the model's continuation.

    `prompt`: one prompt (None: empty); `prompts_file`: a file with one a line instead; `tokens`: at
    most how many are generated; the others: see `sample`. Collective over all started ranks. Raises
    RecipeError for impossible sampling, an unreadable file or a prompt that is too long,
    CheckpointError for a checkpoint that is missing or damaged.
    """
    check_sampling(temperature, top_k, top_p)
    prompts = [prompt or ""] if prompts_file is None else _prompts(prompts_file)
    with open_model(checkpoint, _world_size()) as model:
        tokenizer = model.tokenizer
        vocabulary = Vocabulary.of(tokenizer)
        write = Generator(model.chunks, model.recipe, model.layout, vocabulary)
        sampling = Sampling(tokens, temperature, top_k, top_p, seed)
        written = write([tokenizer.encode(prompt) for prompt in prompts], sampling)
        if model.layout.reports:
            texts = [tokenizer.decode(ids) for ids in written]
            print("\n\n".join(begin + text for begin, text in zip(prompts, texts, strict=True)))


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


def _prompts(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: not UTF-8 text (byte {error.start})") from error
    if not lines:
        raise RecipeError(f"{file}: holds no prompt; write one a line")
    return lines


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
