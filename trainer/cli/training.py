"""The verbs about runs, and the machine that they need: demo, recipe, train, compare, report,
doctor.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.cli.arguments import (
    JsonFile,
    Overrides,
    RankCount,
    RecipeName,
    file,
    give_json,
    path,
    recipe_of,
    tolerance,
)
from trainer.cli.grammar import Verb, Verbs

verbs = typer.Typer(cls=Verbs)


@verbs.command(cls=Verb)
def demo(
    run: Annotated[Path, typer.Option(metavar="DIR", parser=path, help="Run directory.")] = Path(
        "runs/demo"
    ),
) -> None:
    """The whole chain on the embedded corpus. In minutes; ends with a report."""
    from trainer.demo.story import run_demo

    run_demo(run)


@verbs.command(cls=Verb)
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    nproc: RankCount = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print recipe and layout; train nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Resume although what is learned has changed.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Files that only you may read (mode 0600).")
    ] = False,
) -> int:
    """One stage of training. Under torchrun it is a rank; alone it starts them."""
    resolved = recipe_of(recipe, overrides)
    if resolved.evaluate.suites:
        from trainer.evaluate.suite_names import require_names

        require_names(resolved, tasks=show)
    if show:
        from trainer.plan.show import show as show_recipe

        show_recipe(resolved, nproc)
        return 0
    from contextlib import nullcontext

    from launch.local import train_ranks
    from trainer.files import for_me_alone

    with for_me_alone() if private else nullcontext():
        return train_ranks(resolved, nproc, force=force)


@verbs.command(cls=Verb)
def recipe(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="A section or a key, as optimizer.lr; none: all."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", parser=file, help="Write them here; -: print them."),
    ] = None,
) -> None:
    """The keys of a recipe. Of each: type, bounds, default and documentation."""
    from trainer.recipe.documentation import find_keys, show_keys

    keys = find_keys(key)
    if str(json_file) != "-":
        show_keys(keys)
    if json_file is not None:
        give_json(json_file, json.dumps([key.as_json() for key in keys], indent=2))


RunOrMetrics = Annotated[
    Path,
    typer.Argument(metavar="RUN", parser=path, help="Run directory, or a metrics.jsonl."),
]


@verbs.command(cls=Verb)
def compare(
    first: RunOrMetrics,
    second: RunOrMetrics,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            parser=tolerance,
            help="Nats that losses may differ by; where given, exit code 5 if one differs by more.",
            show_default="1e-5, and exit code 0",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", parser=file, help="Write every step here; -: print it."
        ),
    ] = None,
) -> None:
    """How the losses of two runs differ. Step by step, and where they first pass a tolerance."""
    from trainer.compare import TOLERANCE, check, compare_runs, show

    compared = compare_runs(first, second, TOLERANCE if tolerance is None else tolerance)
    if str(json_file) != "-":
        show(compared)
    if json_file is not None:
        give_json(json_file, json.dumps(compared.as_json(), indent=1, allow_nan=False))
    if tolerance is not None:
        check(compared)


@verbs.command(cls=Verb)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN ...", parser=path, help="Run directories, or merged ones."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=file,
            help="Write the page here; -: print it.",
            show_default="RUN/report.html; of several runs ./report.html",
        ),
    ] = None,
) -> None:
    """A page that shows a run. From its data to its answers; of several runs, side by side."""
    from trainer.report.command import report_command

    report_command(runs, out)


@verbs.command(cls=Verb)
def doctor(
    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Groups, collectives, schedules and waits, on one rank."),
    ] = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="What to check; auto: a GPU, if any.")
    ] = "auto",
    json_file: JsonFile = None,
) -> None:
    """Is this machine right? Prints a line a check; exit code 6 where one fails."""
    from trainer.doctor.self_test import doctor_command

    doctor_command(self_test, device, json_file)
