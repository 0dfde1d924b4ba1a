"""`lyceum bench data`: tokens a CPU-second from shards to batches, beside the usual ways."""

import importlib.util
import shlex
import tempfile
from pathlib import Path

from rich.console import Console

from trainer.bench.data import ours, peers, text
from trainer.bench.data.corpus import Workload, make_corpus
from trainer.bench.data.measure import measure
from trainer.bench.data.report import Report, draw, tables, write_json
from trainer.bench.display import can_draw
from trainer.errors import RecipeError

ROWS = 32
TEXT_CHARACTERS = 20_000_000
NEEDED = ("webdataset", "datasets", "pyarrow")


def bench_command(
    tokens: int = 100_000_000,
    sequence_length: int = 4096,
    json_file: Path | None = None,
    plots: Path | None = None,
    tokenizer: Path | None = None,
    repeats: int = 3,
) -> None:
    """Print both tables, and write JSON and pictures where asked.

    `tokens` of documents are made once and kept in the user's cache folder; `tokenizer` is a
    folder in the Hugging Face format (none: one is trained). Raises RecipeError for a missing
    package or a place that cannot be written, DataError for a contestant that fails.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if plots is not None and not can_draw():
        missing.append("matplotlib")
    if missing:
        raise RecipeError(f"bench data: needs {', '.join(missing)}: pip install 'lyceum[data]'")
    _check_places(json_file, plots)
    report = run(tokens, sequence_length, tokenizer, min(TEXT_CHARACTERS, 4 * tokens), repeats)
    console = Console()
    for table in tables(report):
        console.print(table)
    share = report.share_of_bare
    console.print(
        f"Padding {report.padding_share:.3%}, {report.split_documents:,} documents longer than a"
        f" sequence were split. Tokenization: {share['cpu']:.0%} of the bare tokenizer's speed by"
        f" CPU time, {share['wall']:.0%} by wall time."
    )
    if json_file is not None:
        words = ["lyceum", "bench", "data", "--tokens", str(tokens)]
        words += ["--sequence-length", str(sequence_length), "--repeats", str(repeats)]
        write_json(report, json_file, shlex.join(words))
    if plots is not None:
        for path in draw(report, plots):
            console.print(str(path))


def run(
    tokens: int,
    sequence_length: int,
    tokenizer: Path | None,
    text_characters: int,
    repeats: int,
) -> Report:
    """Measure everything."""
    from trainer.data.manifest import load_manifest
    from trainer.data.packing import packing_summary
    from trainer.data.shards import ShardReader
    from trainer.recipe.data import DataSection

    folder = make_corpus(tokens)
    manifest = load_manifest(folder / "shards")
    split = manifest.splits["train"]
    block_shards: int = DataSection.model_fields["block_shards"].default
    workload = Workload(
        str(folder), split.tokens, split.documents, sequence_length, ROWS, block_shards
    )
    lengths = (
        ShardReader(folder / "shards", shard, manifest.token_dtype).lengths
        for shard in split.shards
    )
    packed = packing_summary(lengths, sequence_length, "best_fit", block_shards)
    batches = measure({**ours.CONTESTANTS, **peers.CONTESTANTS}, workload, repeats)
    with tempfile.TemporaryDirectory() as own:
        place = str(tokenizer) if tokenizer else text.save_tokenizer(Path(own), text_characters)
        texts = measure(text.CONTESTANTS, text.TextWorkload(text_characters, place), repeats)
    return Report(
        workload=workload,
        padding_share=packed.padding_share,
        split_documents=packed.split_documents,
        batches=batches,
        text=texts,
        text_documents=len(text.python_texts(text_characters)),
    )


def _check_places(json_file: Path | None, plots: Path | None) -> None:
    """Before minutes of measuring. Raises RecipeError."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise RecipeError(f"--json {json_file}: its folder does not exist: make it first")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise RecipeError(f"--plots {plots}: is not a folder: name another place")
