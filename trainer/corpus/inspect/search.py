"""Search all shards of a corpus for a passage, on every core and in bounded memory."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer.corpus.inspect.passages import (
    LEAST_RUN_WORDS,
    Decoded,
    PassageMatch,
    bulk_decoder,
    longest_runs,
    whole,
)
from trainer.data.manifest import Shard, check_tokenizer, load_manifest
from trainer.data.remote.location import local_folder
from trainer.data.shards import ShardReader
from trainer.data.token_flags import ID_MASK
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import DataError, RecipeError

BATCH_TOKENS = 1 << 18
"""Tokens decoded at once: bounds memory and fits a core's cache (a larger batch is slower)."""
ALONE_BELOW_TOKENS = 20_000_000
"""Smaller corpora are searched in this process, in the time that others would need to start."""


@dataclass(frozen=True, slots=True)
class DocumentMatch:
    """A document that contains the passage, or `run_words` of its words in a row where not None.

    `document`: its index in the shard; `position`: characters into its text; both from 0.
    """

    shard: str
    document: int
    id: str
    source: str
    split: str
    position: int
    occurrences: int
    run_words: int | None
    context: str


@dataclass(frozen=True, slots=True)
class Search:
    """The result of a search.

    `whole`: documents with the whole passage, in the corpus's order; `partial`: where there are
    none, those with the longest runs of its words, longest first; `complete`: False where the
    search stopped at its limit of documents; `documents`, `tokens`, `bytes` (of text) and `seconds`
    are of the search for the whole passage.
    """

    passage: str
    exact: bool
    whole: tuple[DocumentMatch, ...]
    partial: tuple[DocumentMatch, ...]
    complete: bool
    documents: int
    tokens: int
    bytes: int
    seconds: float


class _Task(NamedTuple):
    folder: Path
    fingerprint: str
    split: str
    shard: Shard
    token_dtype: str
    passage: str
    exact: bool
    partial: bool
    marked: bool


class _Found(NamedTuple):
    matches: list[DocumentMatch]
    documents: int
    tokens: int
    bytes: int


def find_passage(
    folder: str | Path,
    passage: str,
    exact: bool = False,
    limit: int = 20,
    workers: int | None = None,
    advance: Callable[[str, int, int], None] = lambda what, tokens, total: None,
) -> Search:
    """Search every split of a corpus for a passage, shard by shard, on `workers` processes (None:
    every core).

    White space and case are ignored unless `exact`. Where no document has the whole passage, and it
    has LEAST_RUN_WORDS words or more, a second pass searches for runs of its words. `limit` bounds
    the documents found. `advance` is called with what is searched for, the tokens done, and the
    tokens in all. Raises RecipeError for an empty passage, DataError for a bad corpus.
    """
    if not passage.strip():
        raise RecipeError("the passage to find is empty: give some of its text")
    folder = local_folder(folder)
    manifest = load_manifest(folder)
    fingerprint = load_tokenizer(folder / "tokenizer").fingerprint
    check_tokenizer(manifest, fingerprint, folder)
    dtype = manifest.token_dtype
    tasks = [
        _Task(folder, fingerprint, name, shard, dtype, passage, exact, False, manifest.marked)
        for name, split in manifest.splits.items()
        for shard in split.shards
    ]
    total = sum(task.shard.tokens for task in tasks)
    workers = workers or len(os.sched_getaffinity(0))
    if total < ALONE_BELOW_TOKENS:
        workers = 1
    begin = time.perf_counter()
    matches: list[DocumentMatch] = []
    documents = tokens = size = 0
    for found in _search_all(tasks, workers):
        matches.extend(found.matches)
        documents, tokens = documents + found.documents, tokens + found.tokens
        size += found.bytes
        advance("passage", tokens, total)
        if len(matches) > limit:
            break
    seconds = time.perf_counter() - begin
    runs: list[DocumentMatch] = []
    if not matches and len(passage.split()) >= LEAST_RUN_WORDS:
        runs = _longest(tasks, workers, limit, lambda done: advance("its words", done, total))
    return Search(
        passage=passage,
        exact=exact,
        whole=tuple(matches[:limit]),
        partial=tuple(runs),
        complete=len(matches) <= limit,
        documents=documents,
        tokens=tokens,
        bytes=size,
        seconds=seconds,
    )


def _longest(
    tasks: Sequence[_Task], workers: int, limit: int, advance: Callable[[int], None]
) -> list[DocumentMatch]:
    best: list[DocumentMatch] = []
    tokens = 0
    for found in _search_all([task._replace(partial=True) for task in tasks], workers):
        # The sort is stable: of runs of one length those first in the corpus stay.
        best = sorted(best + found.matches, key=lambda match: -(match.run_words or 0))[:limit]
        tokens += found.tokens
        advance(tokens)
    return best


def _search_all(tasks: Sequence[_Task], workers: int) -> Iterator[_Found]:
    """What is found in each shard, in order; at most two shards a process are queued at a time."""
    if workers == 1 or len(tasks) < 2:
        yield from map(_search_shard, tasks)
        return
    # A forked child would inherit locks that threads of tokenizers hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _leave_interrupts)
    waiting = iter(tasks)
    under_way: deque[Future[_Found]] = deque()
    try:
        for task in islice(waiting, 2 * workers):
            under_way.append(pool.submit(_search_shard, task))
        while under_way:
            found = under_way.popleft().result()
            for task in islice(waiting, 1):
                under_way.append(pool.submit(_search_shard, task))
            yield found
    except BrokenProcessPool:
        raise DataError(
            "a process that searches the corpus died: free some memory and search again"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    """Ignore SIGINT in a worker: Ctrl-C ends the command, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _search_shard(task: _Task) -> _Found:
    decode = _decoder(task.folder, task.fingerprint)
    reader = ShardReader(task.folder, task.shard, task.token_dtype, verify="size")
    matches: list[DocumentMatch] = []
    size = 0
    try:
        for first, documents in _batches(reader):
            if task.marked:
                documents = [document & np.uint32(ID_MASK) for document in documents]
            try:
                decoded = decode(documents)
            except (IndexError, OverflowError):
                raise DataError(
                    f"shard {reader.path} holds tokens that its tokenizer does not know; copy it"
                    " again from its source, or build the corpus again"
                ) from None
            size += len(decoded.data)
            found = (
                longest_runs(decoded, task.passage)
                if task.partial
                else whole(decoded, task.passage, task.exact)
            )
            matches.extend(_match(task, reader, first, match) for match in found)
    finally:
        reader.close()
    return _Found(matches, task.shard.documents, task.shard.tokens, size)


@lru_cache(maxsize=1)
def _decoder(folder: Path, fingerprint: str) -> Callable[[Sequence[np.ndarray]], Decoded]:
    """The decoder of a corpus's tokenizer, cached a process by folder and fingerprint."""
    return bulk_decoder(load_tokenizer(folder / "tokenizer").files)


def _batches(reader: ShardReader) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Batches of a shard: (index of the first document, documents without end tokens)."""
    first, tokens = 0, 0
    batch: list[np.ndarray] = []
    for number, length in enumerate(reader.lengths.tolist()):
        batch.append(reader.tokens(number, 1, length - 1))
        tokens += length
        if tokens >= BATCH_TOKENS:
            yield first, batch
            first, tokens, batch = number + 1, 0, []
    if batch:
        yield first, batch


def _match(task: _Task, reader: ShardReader, first: int, match: PassageMatch) -> DocumentMatch:
    number = first + match.document
    about = reader.metadata(number)
    return DocumentMatch(
        shard=task.shard.name,
        document=number,
        id=str(about.get("id", "")),
        source=str(about.get("source", "")),
        split=task.split,
        position=match.position,
        occurrences=match.occurrences,
        run_words=match.run_words,
        context=match.context,
    )
