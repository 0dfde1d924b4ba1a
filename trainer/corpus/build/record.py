"""The record of one task of a build: its counts (JSON), and an audit row (Parquet) for each
document that a rule dropped or changed.
"""

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from trainer.corpus.rules.rule import Finding
from trainer.files import WholeFile, write_whole

AUDIT = "audit"
COUNTS = "counts"
GLIMPSES = "glimpses"
GLIMPSE_DOCUMENTS, GLIMPSE_BYTES = 1000, 64 << 20
"""What a task has read, of either, at its first glimpse; at each further one it is ten times that.
They depend on the input alone, as what a build says must."""
ROWS_AT_ONCE = 4096
LENGTH_BINS = 32
JUDGED_BY = "judged by"
"""Groups of counts "judged by RULE": the documents that a rule judged by language, by language."""
GIVEN, DROPPED, TEXT = "given to", "dropped by", "bytes"
"""Groups of counts, by source: "given to RULE" and "dropped by RULE" of documents (the latter by
source and reason), "bytes given to RULE" and "bytes dropped by RULE" of their text."""
COLUMNS = (
    "document",
    "source",
    "rule",
    "reason",
    "action",
    "value",
    "threshold",
    "kept",
    "sha256",
    "bytes",
)
"""Columns of the audit: strings, but for `bytes` (int64), the text's size before the rule."""


class TaskRecord:
    """Counts and audit of one task, written to by all steps of its pipeline.

    `folder`: the build's; `stage`: the name in the files counts/STAGE-TASK.json and
    audit/part-STAGE-TASK.parquet.
    """

    def __init__(self, folder: str, stage: str):
        self._folder, self._stage = Path(folder), stage
        self._rows: list[tuple[Any, ...]] = []
        self._writer: Any = None
        self._audit: WholeFile | None = None
        self.begin(0)

    def begin(self, rank: int) -> None:
        """Reset for task `rank`; the files of an earlier, interrupted attempt are overwritten."""
        if self._audit is not None:
            self._audit.discard()
        self._rank, self._audit, self._glimpses = rank, None, 0
        self.funnel: dict[str, list[int]] = {}
        self.controls: Counter[tuple[str, str, str, str]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.counts: dict[str, Counter[str]] = {}
        self.facts: dict[str, Any] = {}
        self._rows, self._writer = [], None

    def passed(self, step: str, size: int) -> None:
        """Count a document of `size` bytes that a step passed on."""
        count = self.funnel.setdefault(step, [0, 0])
        count[0] += 1
        count[1] += size

    def opened(self, step: str) -> None:
        """List a step in the funnel, even if no document passes it."""
        self.funnel.setdefault(step, [0, 0])

    def add(self, group: str, counts: Counter[str]) -> None:
        """Add `counts` to a group of counts."""
        self.counts.setdefault(group, Counter()).update(counts)

    def count(self, group: str, name: str) -> None:
        """Add one to `name` in a group of counts."""
        self.counts.setdefault(group, Counter())[name] += 1

    def judged(self, rule: str, source: str, size: int, reason: str | None) -> None:
        """Count a document of `size` bytes that came to a rule, and for what it was dropped."""
        self.count(f"{GIVEN} {rule}", source)
        self.add(f"{TEXT} {GIVEN} {rule}", Counter({source: size}))
        if reason is not None:
            self.count(f"{DROPPED} {rule}", f"{source}\t{reason}")
            self.add(f"{TEXT} {DROPPED} {rule}", Counter({source: size}))

    def length(self, group: str, characters: int) -> None:
        """Count a length in its bin: bin b has 2^(b-1) .. 2^b - 1 characters, bin 0 empty texts."""
        self.count(group, str(min(characters.bit_length(), LENGTH_BINS - 1)))

    def found(
        self,
        document: str,
        source: str,
        rule: str,
        action: str,
        finding: Finding,
        text: str,
        kept: str | None = None,
    ) -> None:
        """Add an audit row for a rule's finding.

        `action`: dropped, changed or added; `text`: the document's before the rule; `kept`: the id
        of the document that a duplicate matched.
        """
        threshold = _shown(finding.threshold)
        self.controls[(rule, finding.reason, threshold or "", action)] += 1
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(data).hexdigest()
        value = _shown(finding.value)
        row = (document, source, rule, finding.reason, action, value, threshold, kept, digest)
        self.row(*row, len(data))

    def row(self, *row: Any) -> None:
        """Add an audit row, one value for each of COLUMNS."""
        self._rows.append(row)
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def glimpse(self, step: str) -> None:
        """Write the counts so far, where a step has passed on enough since the last time."""
        documents, size = self.funnel.get(step, (0, 0))
        scale = 10**self._glimpses
        if documents < GLIMPSE_DOCUMENTS * scale and size < GLIMPSE_BYTES * scale:
            return
        path = _glimpse_path(self._folder, self._stage, self._rank, self._glimpses)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps({"counts": self.counts}, ensure_ascii=False).encode())
        self._glimpses += 1

    def finish(self) -> None:
        """Write the audit and then the counts, each file whole or not at all."""
        self._flush()
        if self._audit is not None:
            self._writer.close()
            self._audit.commit()
            self._audit = None
        content = {
            "funnel": self.funnel,
            "controls": [[*key, count] for key, count in sorted(self.controls.items())],
            "seconds": dict(self.seconds),
            "counts": {group: dict(counts) for group, counts in self.counts.items()},
            "facts": self.facts,
        }
        folder = self._folder / COUNTS
        folder.mkdir(exist_ok=True)
        path = folder / f"{self._stage}-{self._rank:05d}.json"
        write_whole(path, json.dumps(content, ensure_ascii=False).encode())

    def _flush(self) -> None:
        if not self._rows:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {name: pa.int64() if name == "bytes" else pa.string() for name in COLUMNS}
        schema = pa.schema(list(kinds.items()))
        if self._writer is None:
            folder = self._folder / AUDIT
            folder.mkdir(exist_ok=True)
            self._audit = WholeFile(folder / f"part-{self._stage}-{self._rank:05d}.parquet")
            self._writer = pq.ParquetWriter(self._audit.file, schema, compression="zstd")
        columns = zip(*self._rows, strict=True)
        arrays = [
            pa.array(column, kind) for column, kind in zip(columns, kinds.values(), strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._rows = []


def read_counts(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The counts of a stage's tasks, by task number."""
    paths = sorted((folder / COUNTS).glob(f"{stage}-*.json"))
    return [json.loads(path.read_bytes()) for path in paths]


def read_count(folder: Path, stage: str, rank: int) -> dict[str, Any] | None:
    """The counts of one task; None where it has not ended."""
    try:
        return dict(json.loads((folder / COUNTS / f"{stage}-{rank:05d}.json").read_bytes()))
    except FileNotFoundError:
        return None


def read_glimpse(folder: Path, stage: str, rank: int, number: int) -> dict[str, Any] | None:
    """The counts of one task at its glimpse `number`; None where it has not come so far."""
    try:
        return dict(json.loads(_glimpse_path(folder, stage, rank, number).read_bytes()))
    except FileNotFoundError:
        return None


def _glimpse_path(folder: Path, stage: str, rank: int, number: int) -> Path:
    return folder / GLIMPSES / f"{stage}-{rank:05d}-{number}.json"


def _shown(value: float | str | None) -> str | None:
    return f"{value:.4g}" if isinstance(value, float) else None if value is None else str(value)
