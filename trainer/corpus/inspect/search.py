"""Search all shards of a corpus for a passage, on every core and in bounded memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainer.corpus.inspect.decoded_shards import (
    StoredShard,
    each_in_order,
    stored_shards,
    workers_for,
)
from trainer.corpus.inspect.passages import (
    LEAST_RUN_WORDS,
    PassageMatch,
    longest_runs,
    whole,
)
from trainer.data.manifest import load_manifest
from trainer.data.remote.location import local_folder
from trainer.data.shards import ShardReader
from trainer.errors import RecipeError


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
    stored: StoredShard
    passage: str
    exact: bool
    partial: bool


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
    shards = stored_shards(folder, load_manifest(folder))
    tasks = [_Task(stored, passage, exact, False) for stored in shards]
    total = sum(stored.shard.tokens for stored in shards)
    workers = workers_for(total, workers)
    begin = time.perf_counter()
    matches: list[DocumentMatch] = []
    documents = tokens = size = 0
    for found in each_in_order(_search_shard, tasks, workers):
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
    parts = [task._replace(partial=True) for task in tasks]
    for found in each_in_order(_search_shard, parts, workers):
        # The sort is stable: of runs of one length those first in the corpus stay.
        best = sorted(best + found.matches, key=lambda match: -(match.run_words or 0))[:limit]
        tokens += found.tokens
        advance(tokens)
    return best


def _search_shard(task: _Task) -> _Found:
    reader = task.stored.open()
    matches: list[DocumentMatch] = []
    size = 0
    try:
        for first, decoded in task.stored.texts(reader):
            size += len(decoded.data)
            found = (
                longest_runs(decoded, task.passage)
                if task.partial
                else whole(decoded, task.passage, task.exact)
            )
            matches.extend(_match(task, reader, first, match) for match in found)
    finally:
        reader.close()
    shard = task.stored.shard
    return _Found(matches, shard.documents, shard.tokens, size)


def _match(task: _Task, reader: ShardReader, first: int, match: PassageMatch) -> DocumentMatch:
    number = first + match.document
    about = reader.metadata(number)
    return DocumentMatch(
        shard=task.stored.shard.name,
        document=number,
        id=str(about.get("id", "")),
        source=str(about.get("source", "")),
        split=task.stored.split,
        position=match.position,
        occurrences=match.occurrences,
        run_words=match.run_words,
        context=match.context,
    )
