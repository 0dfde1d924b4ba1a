"""Exact and near duplicates over the whole corpus, of which the first document remains.

Pairs are matched in parallel, one range of hashes a task; one task then decides, in the documents'
order, which are removed.
"""

from pathlib import Path

import numpy as np

from trainer.corpus.build.sketches import EXACT, load
from trainer.corpus.build.staged import load_array, save_array

MATCHES, REMOVED = "matches", "removed"
COMPARED_WITH_ALL = 32
"""The largest group of documents with one hash in which all pairs are compared; in a larger one,
each is compared with the first and with its predecessor."""
PAIR = np.dtype([("first", "<u8"), ("later", "<u8"), ("similarity", "<f4"), ("exact", "?")])
REMOVAL = np.dtype(
    [
        ("number", "<u4"),
        ("kept_task", "<u4"),
        ("kept", "<u4"),
        ("similarity", "<f4"),
        ("exact", "?"),
    ]
)
TASK_BITS = np.uint64(32)
NUMBER = np.uint64(2**32 - 1)
"""A document id is `task << TASK_BITS | number in the task`, uint64."""
COMPARED_AT_ONCE = 1 << 16


def match_range(
    folder: Path, tasks: int, part: int, parts: int, exact: bool, near: float | None
) -> None:
    """Write the pairs of duplicates (PAIR, by `later`) whose hashes lie in range `part` of `parts`.

    Candidates have equal hashes in some band; they are duplicates when their digests are equal
    (`exact`), or at least the fraction `near` of their sketches' 128 values is. Memory: 16 bytes a
    document of the range.
    """
    low, high = (2**64 * border // parts for border in (part, part + 1))
    bands = load(folder, 0, "hashes").shape[0]
    candidates = {
        band: _candidates(folder, tasks, band, low, high)
        for band in range(bands)
        if exact or band != EXACT
    }
    found = [np.empty(0, PAIR)]
    if exact:
        found.append(_equal(folder, candidates[EXACT]))
    if near is not None:
        sharing = [pairs for band, pairs in candidates.items() if band != EXACT]
        pairs = np.unique(np.concatenate([np.empty((0, 2), np.uint64), *sharing]), axis=0)
        found.append(_similar(folder, pairs, near))
    together = np.concatenate(found)
    order = np.argsort(together["later"], kind="stable")
    save_array(folder / MATCHES / f"{part:05d}.npy", together[order])


def decide(folder: Path, tasks: int, parts: int) -> None:
    """Remove each document that matches an earlier one which is not itself removed.

    Writes `removed/TASK.npy` (REMOVAL, by number) for each task in turn. Memory: about 200 bytes a
    pair of one task's documents.
    """
    found = [load_array(folder / MATCHES / f"{part:05d}.npy", mapped=True) for part in range(parts)]
    for rank in range(tasks):
        borders = [np.uint64(task) << TASK_BITS for task in (rank, rank + 1)]
        mine = [np.empty(0, PAIR)]
        for pairs in found:
            start, stop = np.searchsorted(pairs["later"], borders)
            mine.append(np.array(pairs[start:stop]))
        save_array(removed_path(folder, rank), _removals(folder, rank, np.concatenate(mine)))


def _removals(folder: Path, rank: int, pairs: np.ndarray) -> np.ndarray:
    """The removals (REMOVAL, by number) of one task; those of all earlier tasks must be on disk."""
    first_task = pairs["first"] >> TASK_BITS
    stays = np.ones(len(pairs), dtype=bool)
    for task in np.unique(first_task[first_task < rank]).tolist():
        of_task = first_task == task
        numbers = (pairs["first"][of_task] & NUMBER).astype(np.uint32)
        stays[of_task] = ~np.isin(numbers, load_removed(folder, int(task))["number"])
    pairs = pairs[stays]
    # Of several matches the exact one is named, then the earliest.
    pairs = pairs[np.lexsort((pairs["first"], ~pairs["exact"], pairs["later"]))]
    removed_ids: set[int] = set()
    chosen = []
    firsts, laters = pairs["first"].tolist(), pairs["later"].tolist()
    for index, (first, later) in enumerate(zip(firsts, laters, strict=True)):
        if later not in removed_ids and first not in removed_ids:
            removed_ids.add(later)
            chosen.append(index)
    removed = pairs[chosen]
    entries = np.empty(len(removed), REMOVAL)
    entries["number"] = removed["later"] & NUMBER
    entries["kept_task"] = removed["first"] >> TASK_BITS
    entries["kept"] = removed["first"] & NUMBER
    entries["similarity"], entries["exact"] = removed["similarity"], removed["exact"]
    return entries


def removed_path(folder: Path, rank: int) -> Path:
    """The file of a task's removals."""
    return folder / REMOVED / f"{rank:05d}.npy"


def load_removed(folder: Path, rank: int) -> np.ndarray:
    """The removals of a task (REMOVAL), by number; none where duplicates were not looked for."""
    path = removed_path(folder, rank)
    return load_array(path) if path.is_file() else np.empty(0, REMOVAL)


def _candidates(folder: Path, tasks: int, band: int, low: int, high: int) -> np.ndarray:
    """Pairs (earlier, later) of document ids with equal hashes, uint64 [pairs, 2]."""
    hashes, documents = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for rank in range(tasks):
        mine = load(folder, rank, "hashes")[band]
        start = int(np.searchsorted(mine, np.uint64(low)))
        stop = len(mine) if high >= 2**64 else int(np.searchsorted(mine, np.uint64(high)))
        hashes.append(np.array(mine[start:stop]))
        numbers = load(folder, rank, "documents")[band][start:stop].astype(np.uint64)
        documents.append(numbers | (np.uint64(rank) << TASK_BITS))
    key, document = np.concatenate(hashes), np.concatenate(documents)
    order = np.lexsort((document, key))
    key, document = key[order], document[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1], [True]]))
    sizes = np.diff(starts)
    pairs = [np.empty((0, 2), np.uint64)]
    for size in np.unique(sizes[sizes > 1]).tolist():
        groups = document[starts[:-1][sizes == size][:, None] + np.arange(size)]
        if size <= COMPARED_WITH_ALL:
            earlier, later = np.triu_indices(size, 1)
        else:
            after = np.arange(1, size)
            earlier = np.concatenate([np.zeros_like(after), after - 1])
            later = np.concatenate([after, after])
        pairs.append(np.stack([groups[:, earlier].ravel(), groups[:, later].ravel()], axis=1))
    return np.concatenate(pairs)


def _equal(folder: Path, pairs: np.ndarray) -> np.ndarray:
    same = np.ones(len(pairs), dtype=bool)
    for start in range(0, len(pairs), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        same[part] = (
            _rows(folder, "digests", pairs[part, 0]) == _rows(folder, "digests", pairs[part, 1])
        ).all(axis=1)
    return _pairs(pairs[same], np.ones(int(same.sum()), np.float32), True)


def _similar(folder: Path, pairs: np.ndarray, near: float) -> np.ndarray:
    similarity = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        first = _rows(folder, "sketches", pairs[part, 0])
        similarity[part] = (first == _rows(folder, "sketches", pairs[part, 1])).mean(axis=1)
    alike = similarity >= np.float32(near)
    return _pairs(pairs[alike], similarity[alike], False)


def _pairs(pairs: np.ndarray, similarity: np.ndarray, exact: bool) -> np.ndarray:
    found = np.empty(len(pairs), PAIR)
    found["first"], found["later"] = pairs[:, 0], pairs[:, 1]
    found["similarity"], found["exact"] = similarity, exact
    return found


def _rows(folder: Path, name: str, documents: np.ndarray) -> np.ndarray:
    """Row of array `name` for each of `documents` (ids of any task), [documents, columns]."""
    tasks = documents >> TASK_BITS
    numbers = (documents & NUMBER).astype(np.int64)
    rows: np.ndarray | None = None
    for rank in np.unique(tasks).tolist():
        mine = tasks == rank
        array = load(folder, int(rank), name)
        if rows is None:
            rows = np.empty((len(documents), array.shape[1]), array.dtype)
        rows[mine] = array[numbers[mine]]
    return np.empty((0, 1)) if rows is None else rows
