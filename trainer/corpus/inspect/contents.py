"""`lyceum corpus inspect`: splits, sources, dropped documents, and a few texts of a corpus."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from trainer.corpus.inspect.card import write_card
from trainer.corpus.inspect.curation import audit_size, load_curation
from trainer.corpus.inspect.funnel_plots import plots_command
from trainer.corpus.inspect.tables import curation_tables
from trainer.data.manifest import KINDS, Manifest, Split, load_manifest
from trainer.data.packing import packing_summary
from trainer.data.remote.location import local_folder
from trainer.data.shards import ShardReader
from trainer.data.token_flags import ID_MASK
from trainer.data.tokenizer import Tokenizer, load_tokenizer

SHOWN_CHARACTERS = 600
MANY_SHARDS = 64


def inspect_corpus(folder: str | Path, documents: int = 2, sequence_length: int = 4096) -> Group:
    """A report of a corpus, to print with rich. Raises DataError for a bad corpus.

    It shows the first `documents` texts, and what packing into sequences of `sequence_length`
    tokens gives.
    """
    folder = local_folder(folder)
    manifest = load_manifest(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    parts: list[RenderableType] = [_overview(folder, manifest), _splits(folder, manifest)]
    parts.extend(_packing(folder, manifest, sequence_length))
    summary = manifest.provenance.get("documents")
    if isinstance(summary, dict):
        parts.append(_sources(summary))
    curation = load_curation(folder)
    if curation is not None:
        parts.extend(curation_tables(curation, *audit_size(folder)))
    parts.extend(_samples(folder, manifest, tokenizer, documents))
    return Group(*parts)


def write_extras(folder: Path, plots: Path | None, card: Path | None) -> None:
    """Write the plots to the folder `plots` and the data card to the file `card` (None: neither).

    Raises RecipeError where there is nothing to draw, DataError for a bad corpus.
    """
    if plots is not None:
        plots_command(folder, plots)
    if card is not None:
        print(write_card(folder, card))


def _overview(folder: Path, manifest: Manifest) -> Table:
    table = Table.grid(padding=(0, 2))
    settings = manifest.provenance.get("settings", {})
    size = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    lines = {
        "corpus": str(folder),
        "holds": manifest.kind,
        "source": str(settings.get("source", "unknown")),
        "tokenizer": f"{manifest.tokenizer_size} tokens, {manifest.tokenizer_fingerprint[:12]}",
        "stored as": f"{manifest.token_dtype}, {size / 2**20:.1f} MiB",
        "built by": str(manifest.provenance.get("builder", "unknown")),
    }
    if account := manifest.provenance.get("account"):  # of WebDataset's tars
        lines["account"] = str(account)
    for name, value in lines.items():
        table.add_row(f"[bold]{name}", escape(value))
    return table


def _splits(folder: Path, manifest: Manifest) -> Table:
    table = Table("split", title="splits")
    for column in ("shards", "documents", "tokens", "tokens a document: median", "90%", "longest"):
        table.add_column(column, justify="right")
    for name, split in manifest.splits.items():
        counts = [f"{len(split.shards):,}", f"{split.documents:,}", f"{split.tokens:,}"]
        table.add_row(name, *counts, *_lengths(folder, split, manifest))
    return table


def _lengths(folder: Path, split: Split, manifest: Manifest) -> list[str]:
    """Median, 90% and largest length in tokens, over the first MANY_SHARDS shards, as text.

    Documents are in hashed order, so that the first shards are a random sample.
    """
    lengths = _stored_lengths(folder, split, manifest)
    if not lengths:
        return ["-"] * 3
    return [f"{value:,.0f}" for value in np.quantile(np.concatenate(lengths), [0.5, 0.9, 1.0])]


def _stored_lengths(folder: Path, split: Split, manifest: Manifest) -> list[np.ndarray]:
    """Tokens of each document, int64 [documents], for each of the first MANY_SHARDS shards."""
    lengths = []
    for shard in split.shards[:MANY_SHARDS]:
        reader = ShardReader(folder, shard, manifest.token_dtype, verify="size")
        lengths.append(reader.lengths)
        reader.close()
    return lengths


def _packing(folder: Path, manifest: Manifest, sequence_length: int) -> list[RenderableType]:
    lengths = _stored_lengths(folder, manifest.splits["train"], manifest)
    if not lengths or KINDS[manifest.kind] > 1:
        return []
    table = Table("packing", title=f"train, sequences of {sequence_length:,} tokens")
    for column in ("sequences", "padding", "documents split"):
        table.add_column(column, justify="right")
    for packing in ("best_fit", "none"):
        found = packing_summary(lengths, sequence_length, packing)
        table.add_row(
            packing,
            f"{found.sequences:,}",
            f"{found.padding_share:.2%}",
            f"{found.split_documents:,}",
        )
    return [table]


def _sources(summary: dict[str, Any]) -> Table:
    table = Table("source", title="documents")
    for column in ("files", "read", "kept"):
        table.add_column(column, justify="right")
    for name, read in summary.get("documents_read", {}).items():
        files, kept = summary["files"].get(name, 0), summary["kept"].get(name, 0)
        table.add_row(name, f"{files:,}", f"{read:,}", f"{kept:,}")
    for rule, count in summary.get("dropped", {}).items():
        table.add_row(f"[dim]dropped: {rule}", "", "", f"[dim]{count:,}")
    return table


def _samples(
    folder: Path, manifest: Manifest, tokenizer: Tokenizer, documents: int
) -> list[RenderableType]:
    panels: list[RenderableType] = []
    for shard in manifest.splits["train"].shards[:1]:
        reader = ShardReader(folder, shard, manifest.token_dtype)
        for index in range(min(documents, shard.documents)):
            length = int(reader.lengths[index])
            tokens = reader.tokens(index, 0, length)
            text = tokenizer.decode(
                (tokens & ID_MASK if manifest.marked else tokens[1:-1]).tolist()
            )
            if len(text) > SHOWN_CHARACTERS:
                text = text[:SHOWN_CHARACTERS] + " ..."
            title = f"{reader.metadata(index)['id']} ({length:,} tokens)"
            panels.append(Panel(escape(text), title=escape(title), title_align="left"))
        reader.close()
    return panels
