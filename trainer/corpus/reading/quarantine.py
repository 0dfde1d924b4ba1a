"""Quarantine of malformed records, and the counts of records read.

A corpus of a billion records has bad ones. Each is left out and logged with its location, and too
many of them stop the build.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from trainer.errors import DataError
from trainer.files import WholeFile

log = logging.getLogger(__name__)

PREVIEW_BYTES = 200
ROWS_IN_MEMORY = 100


class RecordLocation(NamedTuple):
    """The location of a record: the `number`-th `unit` ("line", "row", "record", "file") of a file,
    counted from 1. A tuple, because one is made for every record.
    """

    file: str
    unit: str
    number: int

    def __str__(self) -> str:
        return self.file if self.unit == "file" else f"{self.file} {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Oversize:
    """A record too large for memory: its size in bytes, its sha256, its first bytes."""

    size: int
    sha256: str
    start: bytes


@dataclass
class Tally:
    """Counts of files and records read; `records` includes the malformed ones.

    `reasons`: malformed records by reason; `passed_over`: valid records without text (an image in a
    WARC, a page without prose) by kind; `first`: location and fault of the first malformed record.
    """

    files: int = 0
    empty_files: int = 0
    records: int = 0
    malformed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    first: str | None = None

    def absorb(self, other: "Tally") -> None:
        """Add the counts of another task."""
        self.files += other.files
        self.empty_files += other.empty_files
        self.records += other.records
        self.malformed += other.malformed
        self.reasons.update(other.reasons)
        self.passed_over.update(other.passed_over)
        self.first = self.first or other.first

    def summary(self) -> dict[str, Any]:
        """The counts as JSON values, in a fixed order."""
        return {
            "files": self.files,
            "empty_files": self.empty_files,
            "records": self.records,
            "malformed": self.malformed,
            "reasons": dict(sorted(self.reasons.items())),
            "passed_over": dict(sorted(self.passed_over.items())),
            "first": self.first,
        }

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> Self:
        """The inverse of `summary`."""
        counters = {name: Counter(summary[name]) for name in ("reasons", "passed_over")}
        return cls(**{**summary, **counters})

    def check(self, limit: float) -> None:
        """Raise DataError if more than the fraction `limit` of the records is malformed."""
        if self.malformed <= limit * self.records:
            return
        raise DataError(
            f"{self.malformed} of {self.records} records ({self.malformed / self.records:.1%}) are"
            f" malformed, above {limit:.1%}; the first is {self.first}: mend the input, or raise"
            " corpus.limits.malformed"
        )


class Quarantine:
    """The malformed records of one reader, and its tally; a context manager.

    With a path, each malformed record is written there as a JSON line: `file`, the number under the
    name of its unit (`line`, `row`, `record`; none for a whole file), `reason`, `detail`, `sha256`
    and `bytes` of the raw record, and a `preview` of its first 200 bytes (which may contain
    personal data). The file appears when the block ends without an exception. `rows`: the first
    hundred of these rows.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.tally = Tally()
        self.rows: list[dict[str, Any]] = []
        self._path = path
        self._file: WholeFile | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = WholeFile(self._path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            whole, self._file = self._file, None
            whole.commit() if kind is None else whole.discard()

    def set_aside(
        self, location: RecordLocation, reason: str, raw: bytes | Oversize, detail: str
    ) -> None:
        """Count a malformed record and write its row.

        `reason`: the category that it is counted under; `detail`: what is wrong with this record;
        `raw`: its bytes, or the summary of an oversize one.
        """
        message = f"{location}: {detail}"
        self.tally.malformed += 1
        self.tally.reasons[reason] += 1
        if self.tally.first is None:
            self.tally.first = message
        log.debug("set aside %s", message)
        if not isinstance(raw, Oversize):
            raw = Oversize(len(raw), hashlib.sha256(raw).hexdigest(), raw[:PREVIEW_BYTES])
        where = {} if location.unit == "file" else {location.unit: location.number}
        row = {
            "file": location.file,
            **where,
            "reason": reason,
            "detail": detail,
            "sha256": raw.sha256,
            "bytes": raw.size,
            "preview": raw.start[:PREVIEW_BYTES].decode("utf-8", "replace"),
        }
        if len(self.rows) < ROWS_IN_MEMORY:
            self.rows.append(row)
        if self._file is not None:
            self._file.file.write(json.dumps(row).encode() + b"\n")

    def empty_file(self, file: str) -> None:
        """Count an empty file, and log a warning."""
        self.tally.empty_files += 1
        log.warning("%s is empty", file)
