"""What reading sets aside: records that cannot be used, where they stood, and how many there are.

A corpus of a billion records has bad ones. They are neither used nor forgotten: each leaves a row,
and too many of them stop the build.
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
ROWS_KEPT = 100


class RecordLocation(NamedTuple):
    """Where a record stands: the `number`-th `unit` ("line", "row", "record", "file") of a file,
    counted from 1. A tuple, for one is made for every record.
    """

    file: str
    unit: str
    number: int

    def __str__(self) -> str:
        return self.file if self.unit == "file" else f"{self.file} {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Oversize:
    """What is known of a record that is not held: its size, its hash, its first bytes."""

    size: int
    sha256: str
    start: bytes


@dataclass
class Tally:
    """How much was read. A malformed record was read too: `records` counts it.

    `passed_over` counts what is no record of ours though nothing is wrong with it: an image in a
    WARC, a page that holds no prose. `first` names the first malformed record and its reason.
    """

    files: int = 0
    empty_files: int = 0
    records: int = 0
    malformed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    first: str | None = None

    def absorb(self, other: "Tally") -> None:
        """Add what another task read."""
        self.files += other.files
        self.empty_files += other.empty_files
        self.records += other.records
        self.malformed += other.malformed
        self.reasons.update(other.reasons)
        self.passed_over.update(other.passed_over)
        self.first = self.first or other.first

    def summary(self) -> dict[str, Any]:
        """The tally as JSON values, in a fixed order."""
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
        """The tally that `summary` came from."""
        counters = {name: Counter(summary[name]) for name in ("reasons", "passed_over")}
        return cls(**{**summary, **counters})

    def check(self, limit: float) -> None:
        """Raise DataError if more than the share `limit` of the records are malformed."""
        if self.malformed <= limit * self.records:
            return
        raise DataError(
            f"{self.malformed} of {self.records} records ({self.malformed / self.records:.1%}) are"
            f" malformed, above {limit:.1%}; the first is {self.first}: mend the input, or raise"
            " corpus.limits.malformed"
        )


class Quarantine:
    """The records set aside by one reader, and its tally; a context manager.

    With a path, each record set aside becomes a JSON row there: `file`, the number under the name
    of its unit (`line`, `row`, `record`; none for a whole file), `reason`, `detail`, `sha256` and
    `bytes` of the raw record, and a `preview` of its first 200 bytes (which may hold personal
    data). The file is there whole once the block has ended well, and not at all if it ended in an
    exception. `rows` keeps the first hundred in memory.
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
        self, place: RecordLocation, reason: str, raw: bytes | Oversize, detail: str
    ) -> None:
        """Count a malformed record and keep a row of it.

        `reason` is one of a few words, by which records are counted; `detail` says what is wrong
        with this one. `raw` is the record, or what is known of one too large to hold.
        """
        told = f"{place}: {detail}"
        self.tally.malformed += 1
        self.tally.reasons[reason] += 1
        if self.tally.first is None:
            self.tally.first = told
        log.debug("set aside %s", told)
        if not isinstance(raw, Oversize):
            raw = Oversize(len(raw), hashlib.sha256(raw).hexdigest(), raw[:PREVIEW_BYTES])
        where = {} if place.unit == "file" else {place.unit: place.number}
        row = {
            "file": place.file,
            **where,
            "reason": reason,
            "detail": detail,
            "sha256": raw.sha256,
            "bytes": raw.size,
            "preview": raw.start[:PREVIEW_BYTES].decode("utf-8", "replace"),
        }
        if len(self.rows) < ROWS_KEPT:
            self.rows.append(row)
        if self._file is not None:
            self._file.file.write(json.dumps(row).encode() + b"\n")

    def empty_file(self, file: str) -> None:
        """Count a file with nothing in it, and warn."""
        self.tally.empty_files += 1
        log.warning("%s is empty", file)
