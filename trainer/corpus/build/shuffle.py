"""The corpus's order: documents sorted by a hash of seed and text, by an external merge sort.

A document's key depends on the seed and its text alone, so that it stays in its split when others
are added or removed, and the order is the same however the input was cut into tasks. Each cleaning
task writes its documents sorted (a run); a range of keys is read by merging the runs of all tasks.
"""

import hashlib
import heapq
from collections.abc import Iterator
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import numpy as np

from trainer.corpus.build.staged import (
    LineWriter,
    Staged,
    load_array,
    offsets_path,
    parse,
    save_array,
)

CLEAN = "clean"
KEYS = 2**64
BUFFERS_BYTES = 1 << 27
LARGEST_BUFFER = 1 << 20
SMALLEST_BUFFER = 1 << 14


def document_key(seed: int, text: str) -> int:
    """The sort key of a document, in [0, 2^64): the first 8 bytes of sha256 of seed and text."""
    digest = hashlib.sha256(f"{seed}\0{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def write_sorted(folder: Path, rank: int, unsorted: Path, keys: np.ndarray) -> None:
    """Write the lines of `unsorted` in the order of their `keys` (uint64 [documents]).

    Memory: 40 bytes a document; the lines stay on disk.
    """
    offsets = load_array(offsets_path(unsorted))
    order = np.argsort(keys, kind="stable")
    writer = LineWriter(run_path(folder, rank))
    with unsorted.open("rb") as file:
        for number in order.tolist():
            file.seek(int(offsets[number]))
            writer.write(file.read(int(offsets[number + 1] - offsets[number])))
    save_array(keys_path(folder, rank), keys[order])
    writer.close()


def run_path(folder: Path, rank: int) -> Path:
    """The file of a task's sorted documents."""
    return folder / CLEAN / f"{rank:05d}.jsonl"


def keys_path(folder: Path, rank: int) -> Path:
    """The file of their keys, uint64 [documents], ascending."""
    return folder / CLEAN / f"{rank:05d}.keys.npy"


def count_range(folder: Path, tasks: int, low: int, high: int) -> int:
    """The number of documents, over all tasks, with a key in [low, high)."""
    return sum(stop - start for _, start, stop, _ in _runs(folder, tasks, low, high))


def merge_range(folder: Path, tasks: int, low: int, high: int, skip: int = 0) -> Iterator[Staged]:
    """The documents of all tasks with a key in [low, high), in order, without the first `skip`.

    Memory: 8 bytes a document of the range and at most BUFFERS_BYTES, or SMALLEST_BUFFER a task.
    """
    runs = list(_runs(folder, tasks, low, high))
    size = min(LARGEST_BUFFER, max(SMALLEST_BUFFER, BUFFERS_BYTES // max(len(runs), 1)))
    lines = [
        _lines(run_path(folder, rank), rank, start, keys, size) for rank, start, _, keys in runs
    ]
    merged = heapq.merge(*lines, key=itemgetter(0, 1))
    for _ in range(skip):
        next(merged, None)
    for _, _, line in merged:
        yield parse(line)


def bucket_borders(low: int, high: int, buckets: int) -> list[tuple[int, int]]:
    """`buckets` ranges [start, stop) of keys, equal in size, that cover [low, high)."""
    borders = [low + (high - low) * number // buckets for number in range(buckets + 1)]
    return list(pairwise(borders))


def _runs(
    folder: Path, tasks: int, low: int, high: int
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(task, first document, one past the last, their keys) for each task with keys in range."""
    for rank in range(tasks):
        keys = load_array(keys_path(folder, rank), mapped=True)
        start = _index_of(keys, low)
        stop = _index_of(keys, high)
        if stop > start:
            yield rank, start, stop, np.array(keys[start:stop])


def _index_of(keys: np.ndarray, key: int) -> int:
    if key >= KEYS:
        return len(keys)
    return int(np.searchsorted(keys, np.uint64(key)))


def _lines(
    path: Path, rank: int, start: int, keys: np.ndarray, size: int
) -> Iterator[tuple[int, int, bytes]]:
    """(key, task, line) of a run from document `start` on, read `size` bytes at a time.

    The file is open only while it is read: a merge of thousands of runs would exceed the limit of
    open files.
    """
    position = int(load_array(offsets_path(path), mapped=True)[start])
    buffered: list[bytes] = []
    rest = b""
    index = 0
    for key in keys.tolist():
        while index >= len(buffered):
            with path.open("rb") as file:
                file.seek(position)
                data = file.read(size)
            assert data, f"{path} ends before its keys do"
            position += len(data)
            *buffered, rest = (rest + data).split(b"\n")
            index = 0
            # A line longer than the buffer: the next read doubles what was read of it.
            size = size if buffered else max(size, len(rest))
        yield key, rank, buffered[index]
        index += 1
