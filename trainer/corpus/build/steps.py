"""The datatrove steps of a build: each takes documents and yields those that pass."""

import heapq
import time
from array import array
from typing import Any

import numpy as np
from datatrove.data import Document

from trainer.corpus.build.duplicate_steps import DUPLICATES
from trainer.corpus.build.plan import BuildPlan
from trainer.corpus.build.record import JUDGED_BY, TaskRecord
from trainer.corpus.build.shuffle import document_key, write_sorted
from trainer.corpus.build.sketches import Sketches
from trainer.corpus.build.staged import LineWriter
from trainer.corpus.build.step import (
    STAGED,
    BuildStep,
    DocumentStream,
    leave_signals_to_the_parent,
    reported,
    to_document,
    to_staged,
)
from trainer.corpus.rules.balance import count_groups
from trainer.corpus.rules.language import written_language
from trainer.corpus.rules.rule import Judgement, Rule, RuleByLanguage
from trainer.errors import DataError, LyceumError

SKETCHED_AT_ONCE = 512
LANGUAGE = "language"
"""A document's language in its metadata, once a rule has found it."""


class Read(BuildStep):
    """Reads the documents of a task's input; malformed records are quarantined and counted."""

    name = "read"

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Yield the documents in the order of the input."""
        leave_signals_to_the_parent()
        self.record.begin(rank)
        self.record.opened(self.name)
        with reported(self.folder, f"read-{rank:05d}"):
            for staged in self.plan.read(rank, self.record):
                self.record.glimpse(self.name)
                size = len(staged.text.encode())
                self.record.passed(self.name, size)
                self.record.length("lengths read", len(staged.text))
                self.record.count("sources read", staged.group)
                yield to_document(staged, size)


class Judge(BuildStep):
    """Applies one rule to every document."""

    def __init__(self, plan: BuildPlan, record: TaskRecord, rule: Rule):
        super().__init__(plan, record)
        self.rule = rule
        self.name = rule.name

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Yield the documents that pass, with the rule's changes, and those that the rule adds.

        Raises DataError naming the rule and the document where the rule fails.
        """
        assert data is not None, "a rule has documents to judge"
        record, rule = self.record, self.rule
        record.opened(rule.name)
        for document in data:
            started = time.thread_time()
            try:
                outcome = self._outcome(document)
            except LyceumError:
                raise
            except Exception as error:
                raise DataError(
                    f"the rule {rule.name} fails on document {document.id} of"
                    f" {document.metadata['source']} ({type(error).__name__}: {error}); leave the"
                    " rule or the document out, and report it"
                ) from error
            record.seconds[rule.name] += time.thread_time() - started
            reason = outcome.findings[0].reason if outcome.text is None else None
            about = document.metadata
            record.judged(rule.name, about["group"], about["bytes"], reason)
            self._write_down(document, outcome)
            if outcome.text is None:
                continue
            if outcome.text != document.text:
                document.text = outcome.text
                document.metadata["bytes"] = len(outcome.text.encode())
            if "language" in outcome.notes:
                document.metadata[LANGUAGE] = str(outcome.notes["language"])
                record.count("languages", document.metadata[LANGUAGE])
            record.passed(rule.name, document.metadata["bytes"])
            yield document
            if outcome.added is not None:
                record.passed(rule.name, len(outcome.added.encode()))
                yield _beside(document, outcome.added)

    def _outcome(self, document: Document) -> Judgement:
        """The rule's judgement: by the language that the rule on languages found, or the first rule
        that needs one.
        """
        rule = self.rule
        if not isinstance(rule, RuleByLanguage):
            return rule(document.text, document.id)
        if LANGUAGE not in document.metadata:
            document.metadata[LANGUAGE] = written_language(document.text)
        code = document.metadata[LANGUAGE]
        self.record.count(f"{JUDGED_BY} {rule.name}", code)
        return rule.in_language(document.text, code)

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


class WriteStaged(BuildStep):
    """Writes the documents that passed the first rules, and their digests and sketches, to disk."""

    name = "stage"

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Consume the documents; yields none."""
        assert data is not None, "there are documents to stage"
        section = self.plan.section
        sketches = Sketches(self.folder, rank, section.seed, section.near_duplicates)
        writer = LineWriter(self.folder / STAGED / f"{rank:05d}.jsonl")
        waiting: list[str] = []
        for document in data:
            writer.write(to_staged(document).line())
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


class Sort(BuildStep):
    """Writes the documents that passed every rule, sorted by key, and the facts for the split."""

    name = "sort"

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Consume the documents; yields none."""
        assert data is not None, "there are documents to sort"
        unsorted = self.folder / STAGED / f"{rank:05d}.unsorted.jsonl"
        writer, keys = LineWriter(unsorted), array("Q")
        rules = self.plan.section.rules
        balance = rules is not None and rules.balance is not None
        for document in data:
            staged = to_staged(document)
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


class CallFunction(BuildStep):
    """Calls `function(plan, rank)`: a stage that passes no documents on."""

    def __init__(self, plan: BuildPlan, record: TaskRecord, name: str, function: Any):
        super().__init__(plan, record)
        self.name, self.function = name, function

    def run(
        self, data: DocumentStream | None, rank: int = 0, world_size: int = 1
    ) -> DocumentStream:
        """Call the function; yields nothing."""
        leave_signals_to_the_parent()
        with reported(self.folder, f"{self.name}-{rank:05d}"):
            self.function(self.plan, rank)
        yield from ()


def _beside(document: Document, text: str) -> Document:
    about = {**document.metadata, "bytes": len(text.encode())}
    return Document(text=text, id=f"{document.id}#counterfactual", metadata=about)
