"""The plan of a build: its folder, its settings, and how its input is cut into tasks."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.addresses import without_secrets
from trainer.corpus.build.provenance import Input
from trainer.corpus.build.record import TaskRecord
from trainer.corpus.build.staged import Staged
from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.files import write_whole
from trainer.hub.models import tokenizer_folder
from trainer.recipe import CorpusSection

TASKS = "tasks.json"
MOST_TASKS = 4096
"""An upper bound whatever the input: the shuffle reads tasks x buckets pieces one by one."""
RANGE_BYTES = 2 << 30
"""Input a matching task: with documents of 2 kB its bands take about 300 MB of memory."""
EXPANSION = 4
"""The assumed size of text over that of its compressed file, for the number of buckets."""
COMPRESSED = (".gz", ".zst", ".parquet")
QUARANTINE = "quarantine"
FAILED = "failed"
"""The folder of errors that users caused, a JSON file a failed task."""


@dataclass(frozen=True)
class BuildPlan:
    """A build in progress. Small, because it is pickled into every task of every stage.

    `folder`: the partial corpus, `out` the final one (absolute paths); `tokenizer`: a Hugging Face
    folder, or None to train one; `tasks`, `buckets`, `ranges`: tasks of the stages that read, that
    write training shards, that match duplicates; `settings`, `inputs`: the manifest's provenance;
    `options`: how the input is read; `left_out`: see `Input`.
    """

    folder: str
    out: str
    section: CorpusSection
    tokenizer: str | None
    tasks: int
    buckets: int
    ranges: int
    settings: dict[str, Any]
    inputs: dict[str, Any]
    options: ReadOptions
    left_out: tuple[str, ...]

    @property
    def deduplicates(self) -> bool:
        """Whether exact or near duplicates are removed."""
        return self.section.exact_duplicates or self.section.near_duplicates is not None

    @property
    def runs(self) -> int:
        """The number of sorted runs that the shards are merged from: tasks, and the canaries."""
        return self.tasks + (self.section.canaries is not None)

    @property
    def validation_keys(self) -> int:
        """Documents with a key below this are for validation (a tiny corpus: see fit_tokenizer)."""
        return int(min(self.section.validation, 0.999) * 2**64)

    @property
    def validation_buckets(self) -> int:
        """The number of ranges of keys that the validation documents are cut into."""
        return max(1, round(self.buckets * self.section.validation))

    @cached_property
    def _inputs_by_task(self) -> list[list[dict[str, Any]]]:
        return list(json.loads((Path(self.folder) / TASKS).read_bytes()))

    def read(self, rank: int, record: TaskRecord) -> Iterator[Staged]:
        """The documents of task `rank`; malformed records go to quarantine/ and into `record`."""
        path = Path(self.folder) / QUARANTINE / f"part-{rank:05d}.jsonl"
        with Quarantine(path) as quarantine:
            for entry in self._inputs_by_task[rank]:
                yield from self._read_file(InputFile(**entry), quarantine, record)
        record.facts = {"tally": quarantine.tally.summary(), "set aside": quarantine.rows}
        _audit_quarantine(path, record)
        if rank == 0:
            _audit_left_out(self.left_out, record)

    def _read_file(
        self, file: InputFile, quarantine: Quarantine, record: TaskRecord
    ) -> Iterator[Staged]:
        named = self.options.source_key is not None
        entry = without_secrets(file.pattern) or "text"
        groups = set() if named else {entry}
        for raw in read_file(file, self.options, quarantine):
            group = raw.source if named else entry
            groups.add(group)
            yield Staged(raw.id, raw.source, raw.heading, raw.text, group)
        for group in groups:
            record.count("sources files", group)


def make_plan(
    folder: Path,
    out: Path,
    given: Input,
    section: CorpusSection,
    tokenizer: str | None,
    settings: dict[str, Any],
    inputs: dict[str, Any],
) -> BuildPlan:
    """Cut the input into tasks, written to `folder`, and count the tasks of later stages.

    The numbers follow from the section and the files' sizes alone, so that a build that continues
    has the same tasks.
    """
    files, size = given.files(), section.task_mib << 20
    tasks = cut(files, given.task_bytes or size)
    write_tasks(folder, tasks)
    amount = text_bytes(files)
    return BuildPlan(
        folder=str(folder),
        out=str(out),
        section=section.model_copy(update={"files": tuple(map(without_secrets, section.files))}),
        tokenizer=str(tokenizer_folder(tokenizer).absolute()) if tokenizer else None,
        tasks=len(tasks),
        buckets=min(-(-amount // size), MOST_TASKS) or 1,
        ranges=-(-amount // RANGE_BYTES) or 1,
        settings=settings,
        inputs=inputs,
        options=given.options,
        left_out=given.left_out,
    )


def _audit_quarantine(path: Path, record: TaskRecord) -> None:
    """Add an audit row for each record in the quarantine file; remove the file if it is empty."""
    if path.stat().st_size == 0:
        path.unlink()
        return
    with path.open("rb") as file:
        for line in file:
            aside = json.loads(line)
            number = next((aside[unit] for unit in ("line", "row", "record") if unit in aside), "")
            name = f"{aside['file']}:{number}" if number else aside["file"]
            about = ("read", aside["reason"], "quarantined", aside["detail"], None, None)
            record.row(name, aside["file"], *about, aside["sha256"], aside["bytes"])


def _audit_left_out(paths: Iterable[str], record: TaskRecord) -> None:
    """Add an audit row for each document that the source itself left out."""
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                row = json.loads(line)
                record.controls[("read", row["reason"], "", "dropped")] += 1
                about = ("read", row["reason"], "dropped", None, None, None)
                record.row(row["document"], row["source"], *about, row["sha256"], row["bytes"])


def cut(files: list[Any], task_bytes: int) -> list[list[Any]]:
    """Consecutive files in groups of up to `task_bytes` (more, where those pass MOST_TASKS)."""
    total = sum(max(file.bytes, 0) for file in files)
    task_bytes = max(task_bytes, -(-total // MOST_TASKS))
    tasks: list[list[Any]] = []
    size = 0
    for file in files:
        if not tasks or size + max(file.bytes, 0) > task_bytes:
            tasks.append([])
            size = 0
        tasks[-1].append(file)
        size += max(file.bytes, 0)
    return tasks


def write_tasks(folder: Path, tasks: list[list[Any]]) -> None:
    """Write the files of each task to tasks.json, for this user alone while the build lasts: the
    tasks need addresses with their secrets.
    """
    content = [[asdict(file) for file in files] for files in tasks]
    write_whole(folder / TASKS, json.dumps(content).encode(), private=True)


def text_bytes(files: list[Any]) -> int:
    """Estimated bytes of text in the files; one whose server reports no size counts 0."""
    return sum(
        max(file.bytes, 0) * (EXPANSION if str(file.path).endswith(COMPRESSED) else 1)
        for file in files
    )
