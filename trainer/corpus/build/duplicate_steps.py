"""The datatrove steps that find and remove duplicates."""

from typing import Any

from trainer.corpus.build.duplicates import decide, load_removed, match_range
from trainer.corpus.build.staged import Staged, read_staged, staged_at
from trainer.corpus.build.step import (
    STAGED,
    BuildStep,
    DocumentStream,
    leave_signals_to_the_parent,
    reported,
    to_document,
)
from trainer.corpus.rules.rule import Finding

DUPLICATES = "duplicates"


class MatchDuplicates(BuildStep):
    """Finds the pairs of duplicates in one range of hashes."""

    name = "match"

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Write the pairs of range `rank` to disk; yields nothing."""
        leave_signals_to_the_parent()
        section = self.plan.section
        with reported(self.folder, f"match-{rank:05d}"):
            match_range(
                self.folder,
                self.plan.tasks,
                rank,
                world_size,
                section.exact_duplicates,
                section.near_duplicates,
            )
        yield from ()


class Decide(BuildStep):
    """Decides which document of each pair of duplicates is removed."""

    name = "decide"

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Write the removals of every task to disk; yields nothing."""
        leave_signals_to_the_parent()
        with reported(self.folder, "decide-00000"):
            decide(self.folder, self.plan.tasks, self.plan.ranges)
        yield from ()


class Unique(BuildStep):
    """Reads a task's staged documents, without those decided to be duplicates."""

    name = DUPLICATES

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Yield the documents that are not removed, in order; each removal gets an audit row."""
        leave_signals_to_the_parent()
        self.record.begin(rank)
        with reported(self.folder, f"clean-{rank:05d}"):
            removed = {int(entry["number"]): entry for entry in load_removed(self.folder, rank)}
            kept = self._ids_of_kept(removed)
            if self.plan.deduplicates:
                self.record.opened(self.name)
            staged = read_staged(self.folder / STAGED / f"{rank:05d}.jsonl")
            for number, document in enumerate(staged):
                entry = removed.get(number)
                size = len(document.text.encode())
                if entry is not None:
                    reason = self._drop(document, entry, kept)
                    self.record.judged(self.name, document.group, size, reason)
                    continue
                self.record.judged(self.name, document.group, size, None)
                if self.plan.deduplicates:
                    self.record.passed(self.name, size)
                yield to_document(document, size)

    def _ids_of_kept(self, removed: dict[int, Any]) -> dict[tuple[int, int], str]:
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

    def _drop(self, document: Staged, entry: Any, kept: dict[tuple[int, int], str]) -> str:
        exact = bool(entry["exact"])
        near = self.plan.section.near_duplicates
        finding = Finding(
            "duplicate" if exact else "near duplicate",
            float(entry["similarity"]),
            None if exact else near,
        )
        original = (int(entry["kept_task"]), int(entry["kept"]))
        self.record.found(
            document.id,
            document.source,
            self.name,
            "dropped",
            finding,
            document.text,
            kept[original],
        )
        return finding.reason
