"""The documents that passed every rule, kept on disk while a corpus is built, and their order
and split.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.documents import Document, Ledger
from trainer.errors import DataError

DOCUMENTS = "documents.jsonl"
LEDGER = "ledger.json"
KEY_BYTES = 8


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file under a temporary name, flush it to disk, and rename it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def stage_documents(folder: Path, documents: Iterable[Document], ledger: Ledger) -> dict[str, Any]:
    """Write the documents into `folder` one by one, then the ledger's summary, whose presence says
    all are there.

    Returns the summary, with what was kept of each source. Raises DataError when nothing was kept.
    """
    kept: dict[str, int] = {}
    characters = 0
    temporary = folder / f"{DOCUMENTS}.tmp"
    with temporary.open("wb") as file:
        for document in documents:
            # Thousands of text files must not fill the summary with their names.
            group = document.source if document.source in ledger.read else "text"
            kept[group] = kept.get(group, 0) + 1
            characters += len(document.text)
            record = {"id": document.id, "source": document.source, "text": document.text}
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if not kept:
        read, rules = sum(ledger.read.values()), dict(ledger.dropped)
        raise DataError(
            f"the corpus is empty: {read} documents read, dropped by rule: {rules}; add sources or"
            " lower corpus.minimum_characters"
        )
    temporary.replace(folder / DOCUMENTS)
    summary = {**ledger.summary(), "kept": dict(sorted(kept.items())), "characters": characters}
    write_whole(folder / LEDGER, json.dumps(summary).encode())
    return summary


def staged_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a stage that was finished before, or None."""
    path = folder / LEDGER
    return dict(json.loads(path.read_bytes())) if path.is_file() else None


class StagedDocuments:
    """The staged documents in the corpus's order: by a hash of seed and text, the first share for
    validation.

    Where a document falls depends on its own text alone, so that it stays in its split when others
    come and go. Memory: 16 bytes a document.
    """

    def __init__(self, folder: Path, seed: int, validation: float):
        self._path = folder / DOCUMENTS
        offsets, keys = self._scan(seed)
        order = np.argsort(keys, kind="stable")
        border = int(np.count_nonzero(keys < np.uint64(min(validation, 0.999) * 2**64)))
        if validation > 0 and len(keys) > 1:
            # A tiny corpus has something on both sides.
            border = min(max(border, 1), len(keys) - 1)
        elif len(keys) == 1:
            border = 0
        self._splits = {"train": offsets[order[border:]], "validation": offsets[order[:border]]}

    def count(self, split: str) -> int:
        """How many documents the split has."""
        return len(self._splits[split])

    def read(self, split: str, start: int = 0) -> Iterator[dict[str, str]]:
        """The split's records (id, source, text) in order, from number `start`."""
        with self._path.open("rb") as file:
            for offset in self._splits[split][start:]:
                file.seek(int(offset))
                yield json.loads(file.readline())

    def _scan(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        offsets, keys = [], bytearray()
        offset = 0
        with self._path.open("rb") as file:
            for line in file:
                text = json.loads(line)["text"]
                keys += hashlib.sha256(f"{seed}\0{text}".encode()).digest()[:KEY_BYTES]
                offsets.append(offset)
                offset += len(line)
        return np.array(offsets, dtype=np.int64), np.frombuffer(bytes(keys), dtype=">u8").astype(
            np.uint64
        )
