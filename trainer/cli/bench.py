"""`lyceum bench`: the benchmarks."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.cli.arguments import (
    JsonFile,
    Overrides,
    RecipeName,
    above_zero,
    file,
    path,
    positive,
    recipe_of,
)
from trainer.cli.grammar import Verb, Verbs
from trainer.errors import LyceumError, RecipeError

verbs = typer.Typer(name="bench", cls=Verbs, help="The benchmarks.")


@verbs.command(cls=Verb)
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    pairs: Annotated[
        int, typer.Option(metavar="N", parser=positive, help="Alternating pairs.")
    ] = 5,
    peers: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="bare, bare-compiled, transformers-liger, torchtitan, megatron-local: any with"
            " commas, all, or none.",
        ),
    ] = "bare",
    ours: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="eager, compiled, or both with a comma; none: as the recipe says.",
        ),
    ] = "",
    made: Annotated[
        bool,
        typer.Option("--made", help="On made tokens, one document a row: needs no corpus."),
    ] = False,
    steps: Annotated[
        int, typer.Option(metavar="N", parser=positive, help="Timed steps a run.")
    ] = 20,
    peer_seconds: Annotated[
        int,
        typer.Option(metavar="S", parser=positive, help="After which a peer is given up."),
    ] = 600,
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=file, help="Draw tokens a second of all here."),
    ] = None,
) -> None:
    """Speed and memory of a recipe, beside other loops."""
    from trainer.bench.train import bench_command

    bench_command(
        recipe_of(recipe, overrides),
        pairs,
        json_file,
        peers=peers,
        ours=ours,
        made=made,
        steps=steps,
        plot_file=plot,
        peer_seconds=peer_seconds,
    )


@verbs.command(cls=Verb)
def step(
    recipe: RecipeName,
    overrides: Overrides = None,
    on: Annotated[
        Literal["cpu"] | None, typer.Option(help="Measure there; none: on a GPU, if any.")
    ] = None,
    predict_only: Annotated[bool, typer.Option("--predict-only", help="Run nothing.")] = False,
    json_file: JsonFile = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=file, help="Write the table here.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=file, help="Draw the step there.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=file, help="Write a Chrome trace of the step here."),
    ] = None,
) -> None:
    """A step's parts: the least time of each, and what it took."""
    from trainer.bench.step.command import step_command

    step_command(
        recipe_of(recipe, overrides),
        on_cpu=on == "cpu",
        predict_only=predict_only,
        json_file=json_file,
        markdown_file=markdown,
        plot_file=plot,
        trace_file=trace,
        words=(recipe, *(overrides or [])),
    )


@verbs.command(cls=Verb)
def memory(
    recipe: RecipeName,
    overrides: Overrides = None,
    memory: Annotated[
        float | None,
        typer.Option(metavar="GIB", parser=above_zero, help="To fill; none: the device's."),
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="The formula only.")] = False,
    json_file: JsonFile = None,
) -> None:
    """A step's memory by formula, beside the measured peak."""
    from trainer.bench.memory import memory_command

    memory_command(recipe_of(recipe, overrides), gib=memory, run=not no_run, json_file=json_file)


@verbs.command(cls=Verb)
def curation(
    documents: Annotated[
        int, typer.Option(metavar="N", parser=positive, help="Clean ones to plant among.")
    ] = 200,
    json_file: JsonFile = None,
) -> None:
    """Planted documents: precision, recall, cost a rule."""
    from trainer.bench.curation import curation_command

    curation_command(documents, json_file)


@verbs.command(cls=Verb)
def kernels(
    family: Annotated[
        str | None, typer.Argument(metavar="FAMILY", help="As rms_norm; none: all.")
    ] = None,
    sizes: Annotated[
        Literal["sweep", "model"],
        typer.Option(help="A range of widths, or an 8B Llama's shapes."),
    ] = "sweep",
    compile_only: Annotated[
        bool,
        typer.Option(
            "--compile-only",
            help="Compile for sm_80, sm_90 and sm_100, and check the machine code; needs no GPU.",
        ),
    ] = False,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Measure tile sizes and rewrite this GPU's table."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Hold results and gradients beside fp64, by dtype."),
    ] = False,
    write: Annotated[
        bool,
        typer.Option("--write", help="With --compile-only: renew the checked-in readings."),
    ] = False,
    json_file: JsonFile = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=file, help="Draw a picture of each family there."),
    ] = None,
) -> None:
    """Our kernels, beside others' and the hardware's limits."""
    if compile_only + tune + check > 1:
        raise RecipeError(
            "give only one of --compile-only, --tune and --check; see lyceum bench kernels --help"
        )
    from kernels.bench.errors import BenchError, CheckFailed, GateFailed
    from kernels.command import kernels_command

    try:
        kernels_command(
            family,
            sizes=sizes,
            compile_only=compile_only,
            write=write,
            tune=tune,
            check=check,
            json_file=json_file,
            plots=plots,
        )
    except BenchError as error:
        raise RecipeError(str(error)) from error
    except (CheckFailed, GateFailed) as error:
        raise LyceumError(str(error)) from error


@verbs.command(cls=Verb)
def data(
    tokens: Annotated[
        int, typer.Option(metavar="N", parser=positive, help="Made once, then kept.")
    ] = 100_000_000,
    sequence_length: Annotated[
        int, typer.Option(metavar="N", parser=positive, help="Tokens.")
    ] = 4096,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FOLDER", parser=file, help="None: one is trained.")
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", parser=positive, help="Of each figure.")] = 3,
    json_file: JsonFile = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", parser=file, help="Draw the figures there.")
    ] = None,
) -> None:
    """Speed of the data, beside the usual ways to read it."""
    from trainer.bench.data.command import bench_command

    bench_command(
        tokens,
        sequence_length,
        json_file=json_file,
        plots=plots,
        tokenizer=tokenizer,
        repeats=repeats,
    )


@verbs.command(cls=Verb)
def gpu(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", parser=path, help="Gets the report and all figures.")
    ],
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="PART", help="As ceilings, kernels; none: all.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Every part at its smallest, on the CPU.")
    ] = False,
    minutes: Annotated[
        float,
        typer.Option(
            metavar="M", parser=above_zero, help="Of the whole call; parts beyond wait for --after."
        ),
    ] = 10.0,
    after: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", parser=file, help="Run what this earlier call left; or its all.json."
        ),
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="A,B", help="Models to train, as 1.2b; none: all.")
    ] = "",
) -> int:
    """Everything that wants a GPU: checks, speed and memory, in one report."""
    from trainer.bench.gpu.command import gpu_command

    return gpu_command(out, parts or (), dry=dry, minutes=minutes, after=after, sizes=sizes)


@verbs.command(cls=Verb)
def wheels(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", parser=path, help="Gets folders of at most 60 MiB each."),
    ],
) -> None:
    """Fetch what bench gpu needs on a machine without a network."""
    from trainer.bench.gpu.wheels import wheels_command

    wheels_command(folder)
