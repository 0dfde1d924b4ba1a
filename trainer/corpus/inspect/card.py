"""The data card of a corpus: its contents, how it was made, its known limits (Markdown)."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.corpus.build.canaries import CANARIES, Canary, read_canaries
from trainer.corpus.inspect.curation import Curation, audit_size, load_curation, lost
from trainer.corpus.inspect.funnel_plots import write_plots
from trainer.corpus.rules import rule_descriptions
from trainer.data.manifest import Manifest, load_manifest
from trainer.errors import DataError
from trainer.files import write_whole

__all__ = ["CARD_NAME", "data_card", "write_card", "write_plots"]

CARD_NAME = "DATA_CARD.md"
PLOTS = "plots"
LANGUAGES_SHOWN = 15
MALFORMED_SHOWN = 5
NEAR_DUPLICATES = (
    "Near-duplicates are found by an estimate of their similarity (standard error 0.035 at 0.8)"
    " among candidates: some pairs above the threshold stay."
)
LICENCE = (
    "As given by the sources: every document stays under the licence of where it came from, which"
    " its `id` and `source` name; the corpus adds none and grants none."
)


def write_card(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the data card of a corpus to `path` (None: DATA_CARD.md in its folder); returns it.

    A corpus without curation.json gets a card without the sections that come from it. Raises
    DataError for a bad corpus, or when the file cannot be written.
    """
    folder = Path(folder)
    path = folder / CARD_NAME if path is None else Path(path)
    text = data_card(folder, path.parent)
    try:
        write_whole(path, text)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def data_card(folder: str | Path, beside: Path | None = None) -> str:
    """The card as Markdown. Raises DataError for a bad corpus.

    `beside`: the folder that the card is written to; only where that is the corpus's own does the
    card show the pictures in plots/.
    """
    folder = Path(folder)
    manifest, curation = load_manifest(folder), load_curation(folder)
    lines = ["# Data card", ""]
    lines += _what(manifest)
    lines += ["## Licence", "", LICENCE, ""]
    if curation is not None:
        lines += _funnel(curation)
        if beside is not None and beside.resolve() == folder.resolve():
            lines += _pictures(folder)
        lines += _controls(curation)
        lines += _languages(curation)
        lines += _balance(curation)
        lines += _set_aside(curation)
    lines += _sources(manifest, curation)
    lines += _canaries(read_canaries(folder))
    lines += _limits(manifest, curation)
    lines += _trail(folder)
    lines += _reproduce(manifest)
    return "\n".join(lines).rstrip() + "\n"


def _what(manifest: Manifest) -> list[str]:
    rows = [
        (name, f"{split.documents:,}", f"{split.tokens:,}", f"{len(split.shards):,}")
        for name, split in manifest.splits.items()
    ]
    return [
        "Documents of text, stored as tokens in WebDataset shards."
        f" Tokenizer: {manifest.tokenizer_size:,} tokens, sha256"
        f" `{manifest.tokenizer_fingerprint[:16]}`, stored as {manifest.token_dtype}.",
        "",
        *_table(("split", "documents", "tokens", "shards"), rows),
    ]


def _funnel(curation: Curation) -> list[str]:
    if not curation.funnel:
        return []
    rows = [
        (step.name, f"{step.documents:,}", f"{step.bytes:,}", step.shown_tokens, share)
        for step, share in zip(curation.funnel, lost(curation.funnel), strict=True)
    ]
    return [
        "## What each step left",
        "",
        *_table(("step", "documents", "bytes", "tokens", "change in documents"), rows),
        "~: estimated from the bytes, by the bytes a token of the finished corpus.",
        "",
    ]


def _pictures(folder: Path) -> list[str]:
    found = [
        f"![{name}]({PLOTS}/{name}.png)"
        for name in ("funnel", "lengths", "languages")
        if (folder / PLOTS / f"{name}.png").is_file()
    ]
    return [*found, ""] if found else []


def _controls(curation: Curation) -> list[str]:
    if not curation.controls:
        return []
    ranked = sorted(curation.controls, key=lambda control: (control.rule, -control.dropped))
    rows = [(c.rule, c.reason, c.threshold, f"{c.dropped:,}", f"{c.changed:,}") for c in ranked]
    return [
        "## Controls",
        "",
        "Each reason for which a document was dropped or changed, and the threshold that it broke.",
        "",
        *_table(("control", "reason", "threshold", "dropped", "changed"), rows),
        *_losses(curation),
        *_thresholds(curation.rules or {}),
    ]


def _losses(curation: Curation) -> list[str]:
    if not curation.losses:
        return []
    intro = "Where one control took most of a source, with the key of the recipe that changes it:"
    return ["", intro, "", *(f"- {_cell(loss.line())}." for loss in curation.losses)]


def _thresholds(rules: Mapping[str, Any]) -> list[str]:
    """A table of every setting of every rule, including rules that removed nothing."""
    rows = [(rule, *setting) for rule, settings in rules.items() for setting in _flat(settings)]
    if not rows:
        return []
    intro = "Every rule with its settings, whether it removed anything or not:"
    return ["", intro, "", *_table(("rule", "setting", "value"), rows)]


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(settings, Mapping):
        yield prefix, "off" if settings is None else str(settings)
        return
    for name, value in settings.items():
        yield from _flat(value, f"{prefix}.{name}" if prefix else name)


def _languages(curation: Curation) -> list[str]:
    if not curation.languages and not curation.left_out:
        return []
    rows = [(name, f"{count:,}") for name, count in curation.top_languages(LANGUAGES_SHOWN)]
    lines = ["## Languages found", "", *_table(("language", "documents"), rows)]
    left_out = [f"- {_cell(line)}." for line in curation.left_out_lines()]
    return lines + ([*left_out, ""] if left_out else [])


def _balance(curation: Curation) -> list[str]:
    if not curation.balance:
        return []
    rows = [
        (
            row.get("axis", ""),
            row.get("group", ""),
            _number(row.get("mentions")),
            f"{row['share']:.1%}" if isinstance(row.get("share"), float | int) else "-",
        )
        for row in curation.balance
    ]
    return [
        "## Demographic balance",
        "",
        "Mentions of each group's terms in the documents kept, and the share within its axis.",
        "",
        *_table(("axis", "group", "mentions", "share"), rows),
    ]


def _set_aside(curation: Curation) -> list[str]:
    """What was read and is no document: malformed records, and those that hold no text."""
    read = curation.malformed
    lines: list[str] = []
    if count := read.get("malformed", 0):
        total = _number(read.get("records"))
        reasons = _counted(read.get("reasons") or {})
        lines += [
            f"{count:,} of {total} records were malformed and set aside"
            + (f" ({reasons})" if reasons else "")
            + "; the first:",
            "",
            *map(_malformed, list(read.get("first", ()))[:MALFORMED_SHOWN]),
            "",
        ]
    if passed_over := read.get("passed_over"):
        lines += [f"Passed over, as they hold no text: {_counted(passed_over)}.", ""]
    return ["## Set aside", "", *lines] if lines else []


def _malformed(record: Mapping[str, Any]) -> str:
    numbers = [f" {unit} {record[unit]}" for unit in ("line", "row", "record") if record.get(unit)]
    where = _cell(record.get("file", "")) + "".join(numbers)
    return f"- {where}: {_cell(record.get('reason', ''))}"


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {_cell(kind)}" for kind, count in kinds.items())


def _sources(manifest: Manifest, curation: Curation | None) -> list[str]:
    rows: list[tuple[str, ...]] = []
    if curation is not None:
        for name, row in curation.sources.items():
            rows.append((name, *(_number(row.get(key)) for key in ("files", "read", "kept"))))
    else:
        summary = manifest.provenance.get("documents", {})
        for name, read in summary.get("documents_read", {}).items():
            counts = (summary.get(key, {}).get(name, 0) for key in ("files", "kept"))
            files, kept = (_number(count) for count in counts)
            rows.append((name, files, _number(read), kept))
    if not rows:
        return []
    return ["## Sources", "", *_table(("source", "files", "documents read", "kept"), rows)]


def _canaries(planted: Sequence[Canary]) -> list[str]:
    if not planted:
        return []
    rows = Counter((canary.kind, canary.copies) for canary in planted)
    return [
        "## Planted on purpose",
        "",
        "Codes and personal data of nobody, random, in documents of the source `canaries`, to"
        " measure how much a model memorises. They passed no rule and no search for duplicates,"
        f" stand in the training split alone, and are listed in `{CANARIES}`. A model that is"
        " meant for use should not be trained on this corpus.",
        "",
        *_table(
            ("kind", "copies of each", "canaries"),
            [(kind, copies, count) for (kind, copies), count in rows.items()],
        ),
    ]


def _limits(manifest: Manifest, curation: Curation | None) -> list[str]:
    rules: Mapping[str, Any] = (curation.rules if curation else None) or {}
    settings = manifest.provenance.get("settings", {})
    lines: list[str] = []
    absent: list[str] = []
    for key, control in rule_descriptions().items():
        if not control.had_work(rules.get(key)):
            absent.append(control.not_applied)
        elif control.limits is not None:
            lines.append(f"- {control.limits}")
    if settings.get("near_duplicates") is not None or rules.get("duplicates"):
        lines.append(f"- {NEAR_DUPLICATES}")
    else:
        absent.append("near-duplicates were not looked for")
    if absent:
        lines.append(f"- Not done: {'; '.join(absent)}.")
    lines.append("- Nothing here was read by a person, and no statement was checked for its truth.")
    return ["## Known limits", "", *lines, ""]


def _trail(folder: Path) -> list[str]:
    rows, files = audit_size(folder)
    if not files:
        return []
    return [
        "## Trail",
        "",
        f"`audit/` has {rows:,} rows in {files:,} Parquet files: for every document dropped,"
        " changed, added or set aside, the rule, the value that tripped it and a sha256 of the"
        " text.",
        "",
    ]


def _reproduce(manifest: Manifest) -> list[str]:
    provenance = manifest.provenance
    about = {key: provenance[key] for key in ("settings", "inputs") if key in provenance}
    return [
        "## How to make it again",
        "",
        f"Built by {_cell(provenance.get('builder', 'an unknown builder'))}, with"
        " `lyceum corpus build RECIPE` and these settings in the recipe's `corpus` section, from"
        " these inputs:",
        "",
        "~~~~json",
        json.dumps(about, indent=1, ensure_ascii=False, sort_keys=True),
        "~~~~",
        "",
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_cell(value) for value in row) + " |"
    yield ""


def _cell(value: Any) -> str:
    """A value on one line, escaped so that it cannot end its cell or be read as HTML or a link."""
    text = " ".join(str(value).split())
    for character in "\\`*_[]|":
        text = text.replace(character, f"\\{character}")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"
