"""The verbs about what a run has learned: generate, chat, import, export, checkpoint."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.cli.arguments import (
    READ_MODELS,
    Checkpoint,
    RankCount,
    ReadModel,
    RunFolder,
    count,
    file,
    finite,
    model,
    number,
    path,
    positive,
    seed,
)
from trainer.cli.grammar import Verb, Verbs
from trainer.collector import importing
from trainer.errors import RecipeError

verbs = typer.Typer(cls=Verbs)

TokenLimit = Annotated[int, typer.Option(metavar="N", parser=positive, help="At most.")]
Temperature = Annotated[float, typer.Option(metavar="T", parser=number, help="0: greedy.")]
TopK = Annotated[int, typer.Option(metavar="K", parser=count, help="0: all tokens.")]
TopP = Annotated[float, typer.Option(metavar="P", parser=number, help="1: all tokens.")]
Seed = Annotated[int, typer.Option(metavar="S", parser=seed, help="Of the draws.")]


@verbs.command(cls=Verb)
def generate(
    checkpoint: ReadModel,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the text begins with.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=file, help="One prompt a line; -: standard input."),
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=file,
            help='One {"prompt": ...} or {"messages": [...]} a line; answers in JSON lines.',
        ),
    ] = None,
    tokens: TokenLimit = 128,
    temperature: Temperature = 0.8,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    batch: Annotated[
        int,
        typer.Option(
            metavar="N", parser=positive, help="Prompts at a time: faster, near ties may differ."
        ),
    ] = 1,
    nproc: RankCount = None,
) -> int:
    """Read what a checkpoint learned."""
    if [prompt, prompts, jsonl].count(None) != 2:
        raise RecipeError("give one of --prompt, --prompts and --jsonl; see lyceum generate --help")
    from launch.local import run_local

    def worker() -> int:
        with importing():
            from trainer.evaluate.sampling import Sampling
            from trainer.evaluate.writing import generate_command

        sampling = Sampling(tokens, temperature, top_k, top_p, seed)
        generate_command(checkpoint, prompt, prompts, jsonl, sampling, together=batch)
        return 0

    return run_local(worker, nproc)


@verbs.command(cls=Verb)
def chat(
    checkpoint: ReadModel,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt.")] = None,
    tokens: TokenLimit = 512,
    temperature: Temperature = 0.8,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
) -> None:
    """Talk with a checkpoint."""
    with importing():
        from trainer.evaluate.chat import chat_command
        from trainer.evaluate.sampling import Sampling

    sampling = Sampling(tokens, temperature, top_k, top_p, seed)
    chat_command(checkpoint, system, sampling, int(os.environ.get("WORLD_SIZE", "1")))


@verbs.command("import", cls=Verb)
def import_(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=model,
            help="config.json, safetensors, tokenizer.json; a GGUF file; or ORG/NAME on the hub.",
        ),
    ],
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", parser=path, help="Run directory to make.")
    ],
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="BASE",
            parser=model,
            help="Of an adapter: its base, a checkpoint, a folder, a GGUF file or ORG/NAME.",
        ),
    ] = None,
) -> None:
    """Make a checkpoint of a Hugging Face folder, a GGUF file, or a LoRA adapter of PEFT's."""
    with importing():
        from trainer.gguf.model import gguf_file
        from trainer.hub.models import model_folder
        from trainer.hugging_face.adapter_import import import_adapter_command, is_adapter_folder
        from trainer.hugging_face.importing import import_command

    if gguf_file(folder) is None:
        folder = model_folder(folder)
        if is_adapter_folder(folder, base is not None):
            import_adapter_command(folder, checkpoint, base)
            return
    if base is not None:
        raise RecipeError(f"--base: {folder} holds no adapter_config.json; leave it out")
    import_command(folder, checkpoint)


@verbs.command(cls=Verb)
def export(
    checkpoint: Checkpoint,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", parser=path, help="Folder to make; or FILE.gguf.")
    ],
    shard_gb: Annotated[
        float, typer.Option(metavar="G", parser=finite, help="Gigabytes a file holds at most.")
    ] = 5.0,
    dtype: Annotated[
        Literal["stored", "fp32", "bf16", "q8_0"],
        typer.Option(help="Type of the weights; stored: as saved, bf16 in FILE.gguf."),
    ] = "stored",
    adapter: Annotated[
        bool,
        typer.Option("--adapter", help="LoRA adapters alone, in PEFT's format, not merged."),
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --adapter: the model that PEFT is to load under them."
        ),
    ] = None,
) -> None:
    """Make a Hugging Face model folder, or a GGUF file, of a checkpoint."""
    if base is not None and not adapter:
        raise RecipeError("--base: belongs to --adapter; merged weights need no base: leave it out")
    if adapter and dtype != "stored":
        raise RecipeError("--dtype: adapters are written bit for bit; leave it out")
    from trainer.hub.foreign import names_gguf

    if names_gguf(folder):
        if adapter or shard_gb != 5.0:
            named = "--adapter" if adapter else "--shard-gb"
            raise RecipeError(f"{named}: belongs to a folder, and {folder} is to be a file")
        with importing():
            from trainer.gguf.exporting import export_gguf_command

        export_gguf_command(checkpoint, folder, "bf16" if dtype == "stored" else dtype)
        return
    if dtype == "q8_0":
        raise RecipeError(f"--dtype q8_0: belongs to a GGUF file: name {folder}.gguf")
    if adapter:
        with importing():
            from trainer.hugging_face.adapters import export_adapter_command

        export_adapter_command(checkpoint, folder, base, shard_gb)
        return
    with importing():
        from trainer.hugging_face.exporting import export_command

    export_command(checkpoint, folder, shard_gb=shard_gb, dtype=dtype)


checkpoint = typer.Typer(name="checkpoint", cls=Verbs, help="Look after checkpoints.")


@checkpoint.command("ls", cls=Verb)
def list_(folder: RunFolder) -> None:
    """The checkpoints of a run."""
    with importing():
        from trainer.checkpoint.report import list_command

    list_command(folder)


@checkpoint.command(cls=Verb)
def verify(checkpoint: Checkpoint) -> None:
    """Check every file against its hash."""
    with importing():
        from trainer.checkpoint.report import verify_command

    verify_command(checkpoint)


@checkpoint.command(cls=Verb)
def prune(
    folder: RunFolder,
    keep: Annotated[int, typer.Option(metavar="N", parser=positive, help="How many stay.")] = 1,
) -> None:
    """Remove all but the newest checkpoints of a run."""
    with importing():
        from trainer.checkpoint.report import prune_command

    prune_command(folder, keep)


@checkpoint.command(cls=Verb)
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", parser=path)],
    second: Annotated[Path, typer.Argument(metavar="B", parser=path)],
) -> None:
    """How two checkpoints differ."""
    with importing():
        from trainer.checkpoint.report import diff_command

    diff_command(first, second)


@checkpoint.command(cls=Verb)
def merge(
    checkpoints: Annotated[list[Path], READ_MODELS],
    weights: Annotated[
        list[float] | None,
        typer.Option(
            metavar="W ...",
            parser=finite,
            help="One a checkpoint, divided by their sum; below 0: away from it.",
            show_default="equal ones",
        ),
    ] = None,
    into: Annotated[
        Path, typer.Option(metavar="DIR", parser=path, help="Run directory to make.")
    ] = Path("merged"),
) -> None:
    """Average or interpolate the weights of two or more checkpoints of one model."""
    with importing():
        from trainer.merging.command import merge_command

    merge_command(checkpoints, weights, into)
