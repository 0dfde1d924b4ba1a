"""The curation record of a build, read from curation.json, timings.json and audit/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from trainer.corpus.build.losses import SourceLoss
from trainer.errors import DataError, RecipeError
from trainer.parsing import read_json

CURATION_NAME = "curation.json"
TIMINGS_NAME = "timings.json"
AUDIT_NAME = "audit"


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What one step passed on: documents, bytes of text, and tokens (None where unknown).

    Tokens are counted where `exact`, else estimated from the bytes by the finished corpus's bytes a
    token.
    """

    name: str
    documents: int
    bytes: int
    tokens: int | None
    exact: bool

    @property
    def shown_tokens(self) -> str:
        """The tokens, with ~ before an estimate."""
        if self.tokens is None:
            return "-"
        return f"{self.tokens:,}" if self.exact else f"~{self.tokens:,}"


@dataclass(frozen=True, slots=True)
class StepCost:
    """CPU-seconds of a step, and the documents and bytes of text that it was given."""

    seconds: float
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Control:
    """Documents dropped and changed for one reason of one rule, and the threshold of the reason."""

    rule: str
    reason: str
    threshold: str
    dropped: int
    changed: int


@dataclass(frozen=True, slots=True)
class UnjudgedReasons:
    """The reasons that a rule did not look for in a language, for want of a limit or a list."""

    rule: str
    language: str
    documents: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Histograms of documents by length: bin i has edges[i - 1] .. edges[i] - 1 characters.

    `read`, `kept`: documents read, and in the finished corpus.
    """

    edges: tuple[int, ...] = ()
    read: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()

    def filled(self) -> list[tuple[str, int, int]]:
        """(label, read, kept) of the bins from the first to the last that is not empty."""
        bins = [
            (_bin_label(self.edges, index), read, kept)
            for index, (_, read, kept) in enumerate(
                zip(self.edges, self.read, self.kept, strict=False)
            )
        ]
        used = [index for index, (_, read, kept) in enumerate(bins) if read or kept]
        return bins[used[0] : used[-1] + 1] if used else []


@dataclass(frozen=True)
class Curation:
    """Steps, controls and counts of a build, in its order; what a file lacks is empty here."""

    funnel: tuple[FunnelStep, ...] = ()
    controls: tuple[Control, ...] = ()
    languages: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[UnjudgedReasons, ...] = ()
    lengths: Lengths = field(default_factory=Lengths)
    balance: tuple[Mapping[str, Any], ...] = ()
    malformed: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, StepCost] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    losses: tuple[SourceLoss, ...] = ()
    rules: Mapping[str, Any] | None = None

    def top_controls(self, most: int) -> list[Control]:
        """The `most` most active controls, by documents dropped, then by documents changed."""
        active = [control for control in self.controls if control.dropped or control.changed]
        return sorted(active, key=lambda c: (-c.dropped, -c.changed, c.rule, c.reason))[:most]

    def left_out_lines(self, most: int | None = None) -> list[str]:
        """A line for each rule and reasons left out, with the languages, the commonest first; up to
        `most` of them (None: all) by name.
        """
        grouped: dict[tuple[str, str], list[UnjudgedReasons]] = {}
        for row in self.left_out:
            grouped.setdefault((row.rule, ", ".join(row.reasons)), []).append(row)
        return [
            f"{rule} does not look for {reasons} in {_numbered(rows, most)}: nothing at hand says"
            " what is usual there"
            for (rule, reasons), rows in grouped.items()
        ]

    def top_languages(self, most: int) -> list[tuple[str, int]]:
        """The `most` commonest languages with their documents, and the sum of all others."""
        ranked = sorted(self.languages.items(), key=lambda pair: (-pair[1], pair[0]))
        rest = sum(count for _, count in ranked[most:])
        return ranked[:most] + ([("others", rest)] if rest else [])


def load_curation(folder: str | Path) -> Curation | None:
    """The curation of a corpus folder, or None where it has no curation.json.

    Raises DataError naming the file where it cannot be read or is damaged.
    """
    path = Path(folder) / CURATION_NAME
    content = _read(path)
    if content is None:
        return None
    timings = _read(Path(folder) / TIMINGS_NAME) or {}
    try:
        return _parse(content, timings)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is damaged ({detail}): build the corpus again") from None


def lost(steps: Sequence[FunnelStep]) -> list[str]:
    """The relative change in documents at each step, as text: "-12.3%", or "-" for none."""
    changes = ["-"] if steps else []
    for before, after in pairwise(steps):
        if before.documents == 0 or before.documents == after.documents:
            changes.append("-")
        else:
            changes.append(f"{after.documents / before.documents - 1:+.1%}")
    return changes


def audit_size(folder: str | Path) -> tuple[int, int]:
    """The number of rows and files in audit/; (0, 0) where there is none.

    Raises DataError naming a file that is not Parquet, RecipeError without pyarrow.
    """
    paths = sorted((Path(folder) / AUDIT_NAME).glob("*.parquet"))
    rows = 0
    if not paths:
        return 0, 0
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RecipeError(
            "reading the audit needs the package pyarrow, which is not installed: install"
            " lyceum[data]"
        ) from None
    for path in paths:
        try:
            rows += pyarrow.parquet.read_metadata(path).num_rows
        except (OSError, pyarrow.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path} cannot be read ({reason}): build the corpus again") from None
    return rows, len(paths)


def _read(path: Path) -> Any:
    try:
        return read_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): build the corpus again") from None


def _parse(content: dict[str, Any], timings: dict[str, Any]) -> Curation:
    lengths = content.get("lengths") or {}
    return Curation(
        funnel=tuple(
            FunnelStep(
                name=str(step["step"]),
                documents=int(step["documents"]),
                bytes=int(step["bytes"]),
                tokens=None if step.get("tokens") is None else int(step["tokens"]),
                exact=bool(step.get("exact", False)),
            )
            for step in content.get("funnel") or ()
        ),
        controls=tuple(
            Control(
                rule=str(control["rule"]),
                reason=str(control["reason"]),
                threshold=str(control.get("threshold", "")),
                dropped=int(control.get("dropped", 0)),
                changed=int(control.get("changed", 0)),
            )
            for control in content.get("controls") or ()
        ),
        languages={
            str(name): int(count) for name, count in (content.get("languages") or {}).items()
        },
        left_out=tuple(
            UnjudgedReasons(
                rule=str(row["rule"]),
                language=str(row["language"]),
                documents=int(row["documents"]),
                reasons=tuple(map(str, row["reasons"])),
            )
            for row in content.get("left_out") or ()
        ),
        lengths=Lengths(
            *(tuple(int(n) for n in lengths.get(part) or ()) for part in ("edges", "read", "kept"))
        ),
        balance=tuple(dict(row) for row in content.get("balance") or ()),
        malformed=_tally(content.get("malformed") or {}),
        timings={
            str(step): StepCost(float(row["seconds"]), int(row["documents"]), int(row["bytes"]))
            for step, row in timings.items()
        },
        sources={str(name): dict(row) for name, row in (content.get("sources") or {}).items()},
        losses=tuple(SourceLoss(**row) for row in content.get("losses") or ()),
        rules=content.get("rules"),
    )


def _tally(read: dict[str, Any]) -> dict[str, Any]:
    """The counts of records read, some by kind, and the `first` malformed ones."""
    counts = {str(name): held for name, held in read.items() if name != "first"}
    return {
        **{k: _counts_of(v) if isinstance(v, dict) else int(v) for k, v in counts.items()},
        "first": list(read.get("first") or ()),
    }


def _counts_of(row: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in row.items()}


def _numbered(rows: Sequence[UnjudgedReasons], most: int | None) -> str:
    """The languages of the rows with their documents: "km (12 documents), lo (3) and 4 others"."""
    first, *rest = rows[:most]
    named = [f"{first.language} ({first.documents:,} document{'s' * (first.documents > 1)})"]
    named += [f"{row.language} ({row.documents:,})" for row in rest]
    others = len(rows) - len(named)
    return ", ".join(named) + (f" and {others} other{'s' * (others > 1)}" if others else "")


def _bin_label(edges: Sequence[int], index: int) -> str:
    low, high = edges[index - 1] if index else 0, edges[index] - 1
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
