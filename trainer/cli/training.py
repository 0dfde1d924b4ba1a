"""The verbs about runs: demo, recipe, train, compare."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.arguments import Overrides, Ranks, RecipeName, recipe_of
from trainer.cli.grammar import Verb, Verbs

verbs = typer.Typer(cls=Verbs)


@verbs.command(cls=Verb)
def demo(
    run: Annotated[Path, typer.Option(metavar="DIR", parser=Path, help="Run directory.")] = Path(
        "runs/demo"
    ),
) -> None:
    """The whole chain on the embedded corpus. In minutes; ends with a report."""
    from trainer.demo import run_demo

    run_demo(run)


@verbs.command(cls=Verb)
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    nproc: Ranks = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print recipe and layout; train nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Resume although what is learned has changed.")
    ] = False,
) -> int:
    """One stage of training. Under torchrun it is a rank; alone it starts them."""
    resolved = recipe_of(recipe, overrides)
    if show:
        from trainer.plan.show import show as show_recipe

        show_recipe(resolved, nproc)
        return 0
    from launch.local import train_ranks

    return train_ranks(resolved, nproc, force=force)
