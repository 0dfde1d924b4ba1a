"""The curation of a corpus as rich tables for a terminal."""

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trainer.corpus.inspect.curation import Curation, lost

CONTROLS_SHOWN = 15
LANGUAGES_SHOWN = 10
BAR_CHARACTERS = 24


def curation_tables(curation: Curation, rows: int, files: int) -> list[RenderableType]:
    """Tables of the funnel, top reasons, languages, lengths and sources, without empty ones, and
    the sources of which one rule took most.

    `rows`, `files`: the size of audit/.
    """
    tables = [
        _funnel(curation),
        _reasons(curation),
        _counts("languages", curation.top_languages(LANGUAGES_SHOWN)),
        _lengths(curation),
        _sources(curation),
    ]
    parts: list[RenderableType] = [table for table in tables if table.row_count]
    parts += [Text(loss.line()) for loss in curation.losses]
    malformed = curation.malformed.get("malformed", 0)
    if malformed:
        parts.append(Text(f"{malformed:,} malformed records were set aside (quarantine/)"))
    for kind, count in (curation.malformed.get("passed_over") or {}).items():
        parts.append(Text(f"passed over, without text: {count:,} {kind}"))
    if files:
        parts.append(Text(f"audit: {rows:,} rows in {files:,} files (audit/)"))
    return parts


def _funnel(curation: Curation) -> Table:
    table = Table("step", title="funnel: what each step left")
    for column in ("documents", "bytes", "tokens", "change", "CPU seconds", "MB/s"):
        table.add_column(column, justify="right")
    for step, share in zip(curation.funnel, lost(curation.funnel), strict=True):
        timing = curation.timings.get(step.name)
        table.add_row(
            escape(step.name),
            f"{step.documents:,}",
            f"{step.bytes:,}",
            step.shown_tokens,
            share,
            "-" if timing is None else f"{timing.seconds:,.2f}",
            f"{timing.bytes / 1e6 / timing.seconds:,.1f}" if timing and timing.seconds else "-",
        )
    return table


def _reasons(curation: Curation) -> Table:
    table = Table("control", "reason", "threshold", title="top reasons")
    for column in ("dropped", "changed"):
        table.add_column(column, justify="right")
    for control in curation.top_controls(CONTROLS_SHOWN):
        words = (escape(text) for text in (control.rule, control.reason, control.threshold))
        table.add_row(*words, f"{control.dropped:,}", f"{control.changed:,}")
    return table


def _counts(title: str, counts: list[tuple[str, int]]) -> Table:
    table = Table(title.removesuffix("s"), title=title)
    table.add_column("documents", justify="right")
    table.add_column("")
    most = max((count for _, count in counts), default=0)
    for name, count in counts:
        table.add_row(escape(name), f"{count:,}", _bar(count, most))
    return table


def _lengths(curation: Curation) -> Table:
    bins = curation.lengths.filled()
    table = Table("characters", title="lengths")
    for column in ("read", "kept"):
        table.add_column(column, justify="right")
    table.add_column("kept")
    most = max((kept for _, _, kept in bins), default=0)
    for label, read, kept in bins:
        table.add_row(label, f"{read:,}", f"{kept:,}", _bar(kept, most))
    return table


def _sources(curation: Curation) -> Table:
    table = Table("source", title="sources")
    for column in ("files", "read", "kept"):
        table.add_column(column, justify="right")
    for name, row in curation.sources.items():
        counts = (f"{row.get(key, 0):,}" for key in ("files", "read", "kept"))
        table.add_row(escape(name), *counts)
    return table


def _bar(count: int, most: int) -> str:
    return "█" * round(BAR_CHARACTERS * count / most) if most else ""
