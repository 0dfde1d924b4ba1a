"""The steps of a build as datatrove runs them: each takes documents and yields those that pass."""

import heapq
import json
import signal
import time
from array import array
from collections.abc import Iterator
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from trainer.data.curate.balance import count_groups
from trainer.data.curate.duplicates import decide, load_removed, match_range
from trainer.data.curate.plan import Plan
from trainer.data.curate.record import Record
from trainer.data.curate.rule import Finding, Rule
from trainer.data.curate.shuffle import document_key, write_sorted
from trainer.data.curate.sketches import Sketches
from trainer.data.curate.staged import LineWriter, Staged, read_staged, staged_at
from trainer.data.writing import write_whole
from trainer.errors import DataError, LyceumError

Documents = Iterator[Document]

STAGED = "staged"
FAILED = "failed"
SKETCHED_AT_ONCE = 512
DUPLICATES = "duplicates"


class Step(PipelineStep):
    """What all steps share: the plan of the build, and the record of the task."""

    type = "build"

    def __init__(self, plan: Plan, record: Record):
        super().__init__()
        self.plan, self.record = plan, record
        self.folder = Path(plan.folder)


class Read(Step):
    """Reads the documents of a task's input; what cannot be read is set aside and counted."""

    name = "read"

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the documents in the order of the input."""
        _leave_signals_to_the_parent()
        self.record.begin(rank)
        self.record.opened(self.name)
        with _reported(self.folder, f"read-{rank:05d}"):
            for staged in self.plan.read(rank, self.record):
                size = len(staged.text.encode())
                self.record.passed(self.name, size)
                self.record.length("lengths read", len(staged.text))
                self.record.count("sources read", staged.group)
                yield _document(staged, size)


class Judge(Step):
    """Applies one rule to every document."""

    def __init__(self, plan: Plan, record: Record, rule: Rule):
        super().__init__(plan, record)
        self.rule = rule
        self.name = rule.name

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield what passes, as the rule left it, and what the rule added."""
        assert data is not None, "a rule has documents to judge"
        record, rule = self.record, self.rule
        record.opened(rule.name)
        for document in data:
            started = time.thread_time()
            try:
                outcome = rule(document.text, document.id)
            except LyceumError:
                raise
            except Exception as error:
                raise DataError(
                    f"the rule {rule.name} fails on document {document.id} of"
                    f" {document.metadata['source']} ({type(error).__name__}: {error}); leave the"
                    " rule or the document out, and report it"
                ) from error
            record.seconds[rule.name] += time.thread_time() - started
            self._write_down(document, outcome)
            if outcome.text is None:
                continue
            if outcome.text != document.text:
                document.text = outcome.text
                document.metadata["bytes"] = len(outcome.text.encode())
            if "language" in outcome.notes:
                record.count("languages", str(outcome.notes["language"]))
            record.passed(rule.name, document.metadata["bytes"])
            yield document
            if outcome.added is not None:
                record.passed(rule.name, len(outcome.added.encode()))
                yield _beside(document, outcome.added)

    def _write_down(self, document: Document, outcome: Any) -> None:
        action = "dropped" if outcome.text is None else "added" if outcome.added else "changed"
        for finding in outcome.findings:
            self.record.found(
                document.id,
                document.metadata["source"],
                self.rule.name,
                action,
                finding,
                document.text,
            )
            if outcome.text is None and finding.reason == "language":
                self.record.count("languages", str(finding.value).partition(" ")[0])


class Stage(Step):
    """Writes what passed the first rules to disk, with what duplicates are found by."""

    name = "stage"

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Consume the documents; yields none."""
        assert data is not None, "there are documents to stage"
        section = self.plan.section
        sketches = Sketches(self.folder, rank, section.seed, section.near_duplicates)
        writer = LineWriter(self.folder / STAGED / f"{rank:05d}.jsonl")
        waiting: list[str] = []
        for document in data:
            writer.write(_staged(document).line())
            waiting.append(document.text)
            if len(waiting) == SKETCHED_AT_ONCE:
                self._sketch(sketches, waiting)
        self._sketch(sketches, waiting)
        writer.close()
        if self.plan.deduplicates:
            sketches.save()
        self.record.finish()
        yield from ()

    def _sketch(self, sketches: Sketches, waiting: list[str]) -> None:
        started = time.thread_time()
        if self.plan.deduplicates:
            sketches.add(waiting)
        self.record.seconds[DUPLICATES] += time.thread_time() - started
        waiting.clear()


class Match(Step):
    """Finds the pairs of duplicates in one range of hashes."""

    name = "match"

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Leave the pairs on disk; yields nothing."""
        _leave_signals_to_the_parent()
        section = self.plan.section
        with _reported(self.folder, f"match-{rank:05d}"):
            match_range(
                self.folder,
                self.plan.tasks,
                rank,
                world_size,
                section.exact_duplicates,
                section.near_duplicates,
            )
        yield from ()


class Decide(Step):
    """Decides which duplicates go."""

    name = "decide"

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Leave the removals of every task on disk; yields nothing."""
        _leave_signals_to_the_parent()
        with _reported(self.folder, "decide-00000"):
            decide(self.folder, self.plan.tasks, self.plan.ranges)
        yield from ()


class Unique(Step):
    """Reads a task's staged documents again, without the duplicates."""

    name = DUPLICATES

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the documents that stay, in their order."""
        _leave_signals_to_the_parent()
        self.record.begin(rank)
        with _reported(self.folder, f"clean-{rank:05d}"):
            removed = {int(entry["number"]): entry for entry in load_removed(self.folder, rank)}
            kept = self._names_of_kept(removed)
            if self.plan.deduplicates:
                self.record.opened(self.name)
            staged = read_staged(self.folder / STAGED / f"{rank:05d}.jsonl")
            for number, document in enumerate(staged):
                entry = removed.get(number)
                if entry is not None:
                    self._drop(document, entry, kept)
                    continue
                size = len(document.text.encode())
                if self.plan.deduplicates:
                    self.record.passed(self.name, size)
                yield _document(document, size)

    def _names_of_kept(self, removed: dict[int, Any]) -> dict[tuple[int, int], str]:
        wanted: dict[int, list[int]] = {}
        for entry in removed.values():
            wanted.setdefault(int(entry["kept_task"]), []).append(int(entry["kept"]))
        return {
            (task, number): staged.id
            for task, numbers in wanted.items()
            for number, staged in staged_at(
                self.folder / STAGED / f"{task:05d}.jsonl", sorted(set(numbers))
            ).items()
        }

    def _drop(self, document: Staged, entry: Any, kept: dict[tuple[int, int], str]) -> None:
        exact = bool(entry["exact"])
        near = self.plan.section.near_duplicates
        finding = Finding(
            "duplicate" if exact else "near duplicate",
            float(entry["similarity"]),
            None if exact else near,
        )
        place = (int(entry["kept_task"]), int(entry["kept"]))
        self.record.found(
            document.id, document.source, self.name, "dropped", finding, document.text, kept[place]
        )


class Sort(Step):
    """Writes what passed every rule, sorted by key, and what the split is decided by."""

    name = "sort"

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Consume the documents; yields none."""
        assert data is not None, "there are documents to sort"
        unsorted = self.folder / STAGED / f"{rank:05d}.unsorted.jsonl"
        writer, keys = LineWriter(unsorted), array("Q")
        rules = self.plan.section.rules
        balance = rules is not None and rules.balance is not None
        for document in data:
            staged = _staged(document)
            writer.write(staged.line())
            keys.append(document_key(self.plan.section.seed, staged.whole))
            self.record.length("lengths kept", len(staged.text))
            self.record.count("sources kept", staged.group)
            if balance:
                self.record.add("balance", count_groups(staged.text))
        writer.close()
        sorted_by = np.frombuffer(keys, dtype=np.uint64)
        write_sorted(self.folder, rank, unsorted, sorted_by)
        self.record.facts = {
            "documents": len(keys),
            "validation": int(np.count_nonzero(sorted_by < self.plan.validation_keys)),
            "smallest": heapq.nsmallest(2, keys),
            "largest": max(keys, default=0),
        }
        self.record.finish()
        yield from ()


class Call(Step):
    """Calls a function of the plan and the rank: the stages that have no documents to hand on."""

    def __init__(self, plan: Plan, record: Record, name: str, function: Any):
        super().__init__(plan, record)
        self.name, self.function = name, function

    def run(self, data: Documents | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Call it; yields nothing."""
        _leave_signals_to_the_parent()
        with _reported(self.folder, f"{self.name}-{rank:05d}"):
            self.function(self.plan, rank)
        yield from ()


class _reported:  # noqa: N801
    """Leaves a user's error where the process that waits for the cluster finds it."""

    def __init__(self, folder: Path, name: str):
        self._path = folder / FAILED / f"{name}.json"

    def __enter__(self) -> None:
        self._path.unlink(missing_ok=True)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, LyceumError):
            self._path.parent.mkdir(exist_ok=True)
            content = {"error": type(error).__name__, "message": str(error)}
            write_whole(self._path, json.dumps(content).encode())


def _document(staged: Staged, size: int) -> Document:
    about = {
        "source": staged.source,
        "heading": staged.heading,
        "group": staged.group,
        "bytes": size,
    }
    return Document(text=staged.text, id=staged.id, metadata=about)


def _staged(document: Document) -> Staged:
    about = document.metadata
    return Staged(document.id, about["source"], about["heading"], document.text, about["group"])


def _beside(document: Document, text: str) -> Document:
    about = {**document.metadata, "bytes": len(text.encode())}
    return Document(text=text, id=f"{document.id}#counterfactual", metadata=about)


def _leave_signals_to_the_parent() -> None:
    """CTRL-C reaches the whole terminal; in a worker, the parent decides what it means."""
    if parent_process() is not None or _in_pool():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_pool() -> bool:
    import multiprocess

    return bool(multiprocess.parent_process() is not None)
