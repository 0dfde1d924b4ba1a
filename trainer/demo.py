"""`lyceum demo`: the whole chain on this machine's own documentation, told as a story."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.recipe import Recipe, load_recipe, parameter_count

if TYPE_CHECKING:
    from trainer.evaluate.opened import OpenedModel

RANKS = 2
REPEATED_STEPS = 5
PROMPTS = ("os.path.join(path", "torch.mean(input, dim)\n\n")
SAMPLING: dict[str, Any] = {"tokens": 60, "temperature": 0.7, "top_p": 0.9, "seed": 1}


@dataclass(frozen=True)
class Scores:
    """Nats a token on the same validation tokens: the model's and the trigram's."""

    model: float
    trigram: float
    uniform: float
    tokens_read: int
    tokens_predicted: int


def run_demo(folder: Path) -> None:
    """Build the corpus, train with two ranks, compare, repeat at another layout, and report.

    A demo that was interrupted goes on where it stopped. Raises what building and training raise.
    """
    console, started = Console(), time.monotonic()
    recipe = demo_recipe(folder)
    again = repeating_recipe(recipe)
    _introduce(console, recipe)

    _chapter(console, 1, "the corpus: docstrings of this machine's Python packages")
    corpus = _build_corpus(console, recipe)

    _chapter(console, 2, "before training: what random weights write")
    _on_ranks(lambda: _write_untrained(recipe, corpus))

    _chapter(console, 3, f"pre-training with {RANKS} data-parallel ranks")
    before_training = time.monotonic()
    _train(recipe)
    training_seconds = time.monotonic() - before_training

    _chapter(console, 4, "after training: the same prompts, the matrices cut in two")
    _on_ranks(lambda: _write_trained(folder))

    _chapter(console, 5, f"the last {REPEATED_STEPS} steps again, the matrices cut in two")
    _train(again)

    _chapter(console, 6, "what came of it")
    scores = compare_with_trigram(recipe, corpus)
    difference = largest_difference(folder, Path(again.run))
    figures = [
        *_score_rows(recipe, scores),
        (f"last {REPEATED_STEPS} losses at the two layouts", f"differ by {difference:.1e} at most"),
        ("training", f"{training_seconds:.0f} s"),
        ("all of it", f"{time.monotonic() - started:.0f} s"),
    ]
    _report(console, recipe, figures)


def demo_recipe(folder: Path) -> Recipe:
    """The shipped recipe on the CPU, with a checkpoint a few steps before the end."""
    from launch.shipped import find_recipe

    keys = load_recipe(find_recipe("demo")).model_dump(mode="json")
    keys |= {"run": str(folder), "device": "cpu"}
    keys["checkpoint"] |= {"every": keys["steps"] - REPEATED_STEPS, "keep": 0, "save_final": True}
    keys["evaluate"] |= {"every": keys["steps"] // 5}
    return Recipe.from_keys(keys)


def repeating_recipe(recipe: Recipe) -> Recipe:
    """The end of the same run with each matrix shared out over the ranks, in a run of its own."""
    saved = f"{recipe.run}/checkpoints/step-{recipe.steps - REPEATED_STEPS:08}"
    keys = recipe.model_dump(mode="json")
    keys |= {"run": f"{recipe.run}-again", "resume": saved}
    keys["parallel"] |= {"tensor": RANKS, "sequence": True}
    keys["checkpoint"] |= {"every": 0, "save_final": False}
    keys["evaluate"] |= {"every": 0}
    return Recipe.from_keys(keys)


def compare_with_trigram(recipe: Recipe, corpus: Path) -> Scores:
    """The model's last validation loss, and that of a trigram fitted on exactly what it read."""
    import numpy as np

    from trainer.data.loader import validation_batches
    from trainer.data.stream import stream_arguments
    from trainer.data.tokenizer import load_tokenizer
    from trainer.data.trace import consumed_rows
    from trainer.evaluate.trigram import Trigram, trigrams_of_rows

    size = load_tokenizer(corpus / "tokenizer").size
    arguments = stream_arguments(recipe, [corpus])
    rows = consumed_rows(arguments, recipe.batch.sequences, recipe.steps)
    read = [trigrams_of_rows(*row, size) for row in rows]
    held_out = [
        trigrams_of_rows(batch.tokens, batch.labels, batch.position_ids, size)
        for batch in validation_batches(arguments, recipe.evaluate.sequences, 1, range(1))
    ]
    trigram = Trigram.fit(np.concatenate(read), size)
    return Scores(
        model=[r["eval/loss"] for r in _metrics(Path(recipe.run)) if "eval/loss" in r][-1],
        trigram=trigram.nats_per_token(np.concatenate(held_out)),
        uniform=float(np.log(size)),
        tokens_read=sum(len(part) for part in read),
        tokens_predicted=sum(len(part) for part in held_out),
    )


def largest_difference(run: Path, again: Path) -> float:
    """The largest difference in nats between the losses of the steps that both runs made."""
    losses = {record["step"]: record["loss"] for record in _metrics(run)}
    repeated = {record["step"]: record["loss"] for record in _metrics(again)}
    assert len(repeated) == REPEATED_STEPS, "the repeated run starts at the saved step"
    return max(abs(losses[step] - loss) for step, loss in repeated.items())


def _metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _on_ranks(worker: Callable[[], None]) -> None:
    from launch.local import run_local

    def rank() -> int:
        worker()
        return 0

    run_local(rank, RANKS, "cpu")


def _train(recipe: Recipe) -> None:
    from launch.local import train_ranks

    train_ranks(recipe, RANKS, force=False)


def _build_corpus(console: Console, recipe: Recipe) -> Path:
    from launch.ranks import run_ranks
    from trainer.data.build import corpus_folder, ensure_corpus
    from trainer.data.inspect import inspect_corpus

    assert recipe.corpus is not None, "the demo's recipe says how its corpus is built"
    folder = corpus_folder(recipe.corpus, recipe.tokenizer)

    def build() -> int:
        ensure_corpus(recipe)
        return 0

    # In a process of its own: the tokenizer's threads would not survive the forks to come.
    run_ranks(build, 1, "cpu")
    console.print(inspect_corpus(folder, documents=1))
    return folder


def _write_untrained(recipe: Recipe, corpus: Path) -> None:
    from trainer.data.tokenizer import load_tokenizer
    from trainer.evaluate.opened import OpenedModel
    from trainer.model.transformer import build_model
    from trainer.parallel.layout import create_layout, leave

    layout = create_layout(recipe)
    try:
        assert recipe.model.vocab is not None, "the demo's recipe names its vocabulary"
        chunks = build_model(recipe, recipe.model.vocab, layout)
        tokenizer = load_tokenizer(corpus / "tokenizer")
        _write(OpenedModel(corpus, 0, recipe, layout, chunks, tokenizer))
    finally:
        leave()


def _write_trained(folder: Path) -> None:
    from trainer.evaluate.opened import open_model

    with open_model(folder, RANKS) as model:
        _write(model)


def _write(model: "OpenedModel") -> None:
    from trainer.evaluate.generate import Generator, Sampling, Vocabulary

    tokenizer = model.tokenizer
    vocabulary = Vocabulary.of(tokenizer)
    write = Generator(model.chunks, model.recipe, model.layout, vocabulary)
    written = write([tokenizer.encode(prompt) for prompt in PROMPTS], Sampling(**SAMPLING))
    if not model.layout.reports:
        return
    console = Console()
    for prompt, tokens in zip(PROMPTS, written, strict=True):
        console.print(Text(prompt, style="bold") + Text(tokenizer.decode(tokens)), "\n")


def _introduce(console: Console, recipe: Recipe) -> None:
    model = recipe.model
    console.print(
        f"A transformer of {model.layers} layers, {_parameters(recipe):,} parameters, learns to "
        "write documentation: from docstrings to shards, to a trained model, to text, by the path "
        "that a run on 1,000 GPUs takes. Nothing is downloaded."
    )


def _parameters(recipe: Recipe) -> int:
    assert recipe.model.vocab is not None, "the demo's recipe names its vocabulary"
    return parameter_count(recipe.model, recipe.model.vocab)["total"]


def _chapter(console: Console, number: int, title: str) -> None:
    console.print()
    console.rule(f"[bold]{number}  {title}", align="left")


def _score_rows(recipe: Recipe, scores: Scores) -> list[tuple[str, str]]:
    ahead = scores.trigram - scores.model
    verdict = f"{ahead:.2f} nats ahead" if ahead > 0 else f"{-ahead:.2f} nats behind"
    return [
        ("parameters", f"{_parameters(recipe):,}"),
        ("tokens read", f"{scores.tokens_read:,}"),
        ("validation tokens", f"{scores.tokens_predicted:,}"),
        ("guessing", f"{scores.uniform:.3f} nats a token"),
        ("Kneser-Ney trigram of what was read", f"{scores.trigram:.3f} nats a token"),
        ("the model", f"{scores.model:.3f} nats a token: {verdict}"),
    ]


def _report(console: Console, recipe: Recipe, figures: list[tuple[str, str]]) -> None:
    table = Table(show_header=False)
    table.add_column(style="bold")
    for name, value in figures:
        table.add_row(name, value)
    console.print(table)
    console.print("\nNext:")
    for command in (
        f'lyceum generate {recipe.run} --prompt "os.path.join("',
        f"lyceum corpus trace {recipe.run} {recipe.steps}",
        "lyceum train tiny parallel.tensor=2 parallel.pipeline=2 zero.stage=1 --nproc 8",
    ):
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)
