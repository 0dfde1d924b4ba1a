"""`lyceum corpus`: make, look at and check corpora."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.cli.arguments import (
    Corpus,
    Overrides,
    RecipeName,
    RunFolder,
    byte_count,
    count,
    file,
    positive,
    recipe_of,
)
from trainer.cli.grammar import Verb, Verbs
from trainer.errors import DataError

verbs = typer.Typer(name="corpus", cls=Verbs, help="Make, look at and check corpora.")


@verbs.command(cls=Verb)
def build(
    recipe: RecipeName,
    overrides: Overrides = None,
    on: Annotated[
        Literal["local", "slurm"],
        typer.Option(help="Where its tasks run; slurm needs the recipe's corpus.slurm."),
    ] = "local",
    private: Annotated[
        bool, typer.Option("--private", help="Files that only you may read (mode 0600).")
    ] = False,
) -> None:
    """Make the shards of the recipe's corpus section."""
    from contextlib import nullcontext

    from trainer.files import for_me_alone
    from trainer.sources import build_from_recipe

    chosen = recipe_of(recipe, overrides)
    if chosen.corpus is None and chosen.init_from is not None:
        # The tars of its mixture are tokenised with the base's tokenizer.
        from trainer.resume import starting_keys

        chosen = chosen.model_copy(update=starting_keys(chosen))
    with for_me_alone() if private else nullcontext():
        build_from_recipe(chosen, on=on)


@verbs.command(cls=Verb)
def inspect(
    folder: Corpus,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", parser=file, help="Draw funnel, lengths and languages."),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=file, help="Write the data card (Markdown) here."),
    ] = None,
    sequence_length: Annotated[
        int,
        typer.Option(
            metavar="N", parser=positive, help="Tokens a sequence that packing is shown for."
        ),
    ] = 4096,
) -> None:
    """What a corpus holds."""
    from rich import print

    from trainer.corpus.inspect.contents import inspect_corpus, write_extras

    # Files first: whoever reads the rest, such as `head`, may leave early.
    write_extras(folder, plots, card)
    print(inspect_corpus(folder, sequence_length=sequence_length))


@verbs.command(cls=Verb)
def verify(folder: Corpus) -> None:
    """Check every shard against its hash."""
    from trainer.corpus.inspect.verify import verify_corpus

    problems = verify_corpus(folder)
    for problem in problems:
        print(problem)
    if problems:
        raise DataError(f"{folder}: {len(problems)} problems found; build the corpus again")
    print(f"{folder}: every shard is as its manifest says")


@verbs.command(cls=Verb)
def find(
    folder: Corpus,
    passage: Annotated[
        str, typer.Argument(metavar="TEXT", help="White space and case do not count.")
    ],
    exact: Annotated[bool, typer.Option("--exact", help="Compare byte for byte.")] = False,
    limit: Annotated[
        int, typer.Option(metavar="N", parser=positive, help="Documents at most.")
    ] = 20,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", parser=file, help="Write what is found here."),
    ] = None,
) -> None:
    """Which documents of a corpus hold a passage."""
    from trainer.corpus.inspect.find import find_command

    find_command(folder, passage, exact, limit, json_file)


@verbs.command(cls=Verb)
def scale(
    text_bytes: Annotated[
        list[float] | None,
        typer.Option(
            "--bytes",
            metavar="B...",
            parser=byte_count,
            help="Of text, one or several.",
            show_default="1e12 1e14",
        ),
    ] = None,
    document_bytes: Annotated[
        float | None,
        typer.Option(metavar="B", parser=byte_count, help="Text a document; none: as docstrings."),
    ] = None,
    token_bytes: Annotated[
        float | None,
        typer.Option(metavar="B", parser=byte_count, help="Text a token; none: as docstrings."),
    ] = None,
) -> None:
    """What a corpus of so much text needs."""
    from trainer.plan.corpus import scale_command

    scale_command(text_bytes or [1e12, 1e14], document_bytes, token_bytes)


@verbs.command(cls=Verb)
def trace(
    folder: RunFolder,
    step: Annotated[int, typer.Argument(metavar="STEP", parser=positive, help="From 1.")],
    row: Annotated[
        int | None, typer.Argument(metavar="ROW", parser=count, help="From 0; none: all rows.")
    ] = None,
) -> None:
    """Which documents made a row of a step's batch."""
    from trainer.trace import trace_command

    trace_command(folder, step, row)
