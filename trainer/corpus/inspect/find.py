"""`lyceum corpus find`: the shards and documents that contain a passage, and their sources."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from trainer.corpus.inspect.passages import LEAST_RUN_WORDS
from trainer.corpus.inspect.search import DocumentMatch, Search, find_passage
from trainer.errors import RecipeError

FILE_COLUMNS = 200


def find_command(
    folder: Path, passage: str, exact: bool, limit: int, json_file: Path | None = None
) -> None:
    """Print the documents that contain a passage and the search's speed, also to a JSON file.

    Raises what find_passage raises, and RecipeError where the file cannot be written.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        rows: dict[str, TaskID] = {}

        def advance(what: str, tokens: int, total: int) -> None:
            if what not in rows:
                rows[what] = bar.add_task(what, total=total)
            bar.update(rows[what], completed=tokens)

        search = find_passage(folder, passage, exact, limit, advance=advance)
    _show(folder, search, limit)
    if json_file is not None:
        _write(json_file, search)


def _show(folder: Path, search: Search, limit: int) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_COLUMNS)  # A file or a pipe has no edge to fold at.
    matches = search.whole or search.partial
    if matches:
        console.print(_table(matches, search.partial != ()))
    lines = {
        "whole": f"{_documents(len(search.whole))} of {folder} with the passage"
        + ("" if search.complete else f"; the search ended at --limit {limit}, there are more"),
        "partial": f"no document of {folder} has the passage whole; these have the longest runs"
        " of its words",
        "none": f"no document of {folder} has the passage"
        + (
            f", nor {LEAST_RUN_WORDS} of its words in a row"
            if len(search.passage.split()) >= LEAST_RUN_WORDS
            else ""
        ),
    }
    kind = "whole" if search.whole else "partial" if search.partial else "none"
    console.print(escape(lines[kind]), highlight=False)
    console.print(
        f"searched {search.documents:,} documents, {search.tokens:,} tokens,"
        f" {search.bytes / 1e6:,.1f} MB of text in {search.seconds:.1f} s"
        f" ({search.bytes / 1e6 / max(search.seconds, 1e-9):,.0f} MB/s)",
        highlight=False,
    )


def _documents(count: int) -> str:
    return f"{count:,} document" + ("" if count == 1 else "s")


def _table(matches: Sequence[DocumentMatch], partial: bool) -> Table:
    table = Table()
    counted = "words in a row" if partial else "times"
    for name in ("split", "shard", "document", "id", "source", "character", counted, "text"):
        number = name in ("document", "character", counted)
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for match in matches:
        table.add_row(
            match.split,
            escape(match.shard),
            str(match.document),
            escape(match.id),
            escape(match.source),
            str(match.position),
            str(match.run_words if partial else match.occurrences),
            escape(match.context),
        )
    return table


def _write(path: Path, search: Search) -> None:
    try:
        path.write_text(json.dumps(asdict(search), indent=1, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise RecipeError(f"cannot write {path}: {error.strerror or error}") from None
