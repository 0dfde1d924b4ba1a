"""The verb that measures: evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.arguments import READ_MODEL, RankCount, count, file, positive, seed
from trainer.cli.grammar import Verb, Verbs
from trainer.collector import importing
from trainer.errors import RecipeError

verbs = typer.Typer(cls=Verbs)


@verbs.command(cls=Verb)
def evaluate(
    checkpoint: Annotated[Path | None, READ_MODEL] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="How it is read: parallel.pipeline=2 or another layout; precision=bf16.",
        ),
    ] = None,
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="NAME",
            help="Of the built-in ones, or a task of lm-eval; repeatable; none: all built-in.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            parser=file,
            help="Write the figures here; -: print them, and no table.",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=file,
            help="A line of JSON an item, gone on with; none: beside --json, or in LYCEUM_CACHE.",
        ),
    ] = None,
    corpora: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            metavar="DIR",
            help="Read and search this corpus, not the run's own; repeatable.",
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="Read and search this file, of any format that corpora have; repeatable.",
        ),
    ] = None,
    tasks_path: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=file, help="More tasks of lm-eval: a folder of YAML files."
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=count, help="Examples before a question of lm-eval's tasks."
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat", help="Put lm-eval's tasks in the form of the model's chat template."
        ),
    ] = False,
    system: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A system prompt before lm-eval's tasks."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", parser=positive, help="Items a suite at most."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", parser=seed, help="Of items, draws and intervals.")
    ] = 0,
    gates: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="TEXT",
            help='What must hold, as "bias/gap < 0.1"; repeatable; exit code 5 where it does not.',
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=file,
            help="--json of the model that gates `within` compare with; none: the run's own base.",
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=file, help="Draw facts by occurrence, with the bound, here."
        ),
    ] = None,
    list_suites: Annotated[
        bool, typer.Option("--list", help="What each built-in suite measures; measure nothing.")
    ] = False,
    nproc: RankCount = None,
) -> int:
    """Measure a checkpoint: truth, fairness, and what it has learned; each with its interval."""
    if list_suites:
        from trainer.evaluate.evaluation_report import show_suites

        show_suites()
        return 0
    if checkpoint is None:
        raise RecipeError("missing argument 'CHECKPOINT'; see lyceum evaluate --help")
    from launch.local import run_local

    def worker() -> int:
        with importing():
            from trainer.evaluate.command import evaluate_command
            from trainer.evaluate.options import EvaluationOptions

        options = EvaluationOptions(
            overrides=tuple(overrides or ()),
            corpora=tuple(corpora or ()),
            texts=tuple(texts or ()),
            records=records,
            tasks_path=tasks_path,
            shots=shots,
            chat=chat,
            system=system,
            limit=limit,
            seed=seed,
            gates=tuple(gates or ()),
            base=base,
            plots=plots,
        )
        evaluate_command(checkpoint, suites or [], json_file, options=options)
        return 0

    return run_local(worker, nproc)
