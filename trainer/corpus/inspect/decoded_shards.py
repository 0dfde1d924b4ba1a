"""The texts of a corpus's shards, decoded in bulk, in this process or in several."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TypeVar

import numpy as np

from trainer.corpus.inspect.passages import Decoded, bulk_decoder
from trainer.data.manifest import Manifest, Shard, check_tokenizer
from trainer.data.remote.location import Place, Url
from trainer.data.remote.reader import RemoteShards
from trainer.data.remote.transfer import Attempts
from trainer.data.shards import ShardReader
from trainer.data.token_flags import ID_MASK
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

BATCH_TOKENS = 1 << 18
"""Tokens decoded at once: bounds memory and fits a core's cache (a larger batch is slower)."""
ALONE_BELOW_TOKENS = 20_000_000
"""Smaller corpora are read in this process, in the time that others would need to start."""

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class StoredShard:
    """A shard of a corpus, with what is needed to read its texts; small, and picklable.

    `folder`: the corpus's, or its URL; `fingerprint`, `end_of_text`: of its tokenizer; `marked`:
    whether the tokens carry flags; `remote`: how a URL is read (through this node's cache).
    """

    folder: Place
    fingerprint: str
    split: str
    shard: Shard
    token_dtype: str
    marked: bool
    end_of_text: int
    remote: RemoteSection

    def open(self) -> ShardReader:
        """The reader, its shard fetched where it is remote; raises DataError as ShardReader."""
        if isinstance(self.folder, Url):
            opener = RemoteShards(self.folder, Attempts(self.remote))
            return opener.open(self.folder, self.shard, self.token_dtype)
        return ShardReader(self.folder, self.shard, self.token_dtype, verify="size")

    def texts(self, reader: ShardReader) -> Iterator[tuple[int, Decoded]]:
        """Batches of its documents: (index of the first, their texts), without end tokens.

        In a set for fine-tuning the texts have the template's marks. Raises DataError for tokens
        that the corpus's tokenizer does not know.
        """
        decode = _decoder(self.folder, self.fingerprint, self.remote)
        for first, documents in self._batches(reader):
            try:
                decoded = decode(documents)
            except (IndexError, OverflowError):
                raise DataError(
                    f"shard {reader.path} holds tokens that its tokenizer does not know; copy it"
                    " again from its source, or build the corpus again"
                ) from None
            yield first, decoded

    def _batches(self, reader: ShardReader) -> Iterator[tuple[int, list[np.ndarray]]]:
        """(index of the first document, documents without end tokens)."""
        first, tokens = 0, 0
        batch: list[np.ndarray] = []
        for number, length in enumerate(reader.lengths.tolist()):
            batch.append(self._ids(reader, number, length))
            tokens += length
            if tokens >= BATCH_TOKENS:
                yield first, batch
                first, tokens, batch = number + 1, 0, []
        if batch:
            yield first, batch

    def _ids(self, reader: ShardReader, number: int, length: int) -> np.ndarray:
        if not self.marked:
            return reader.tokens(number, 1, length - 1)
        # An example begins and ends as its template says, with or without an end of text.
        ids = reader.tokens(number, 0, length) & np.uint32(ID_MASK)
        ends = (ids[:1] == self.end_of_text).sum(), (ids[-1:] == self.end_of_text).sum()
        return ids[ends[0] : length - ends[1]]


def stored_shards(
    folder: Place,
    manifest: Manifest,
    splits: Sequence[str] | None = None,
    remote: RemoteSection | None = None,
) -> list[StoredShard]:
    """The shards of the named splits (None: all) of a corpus, in order.

    Raises DataError where the corpus's own tokenizer is missing, or is not the one of its shards.
    """
    remote = remote or RemoteSection()
    fingerprint = load_tokenizer(folder / "tokenizer", remote).fingerprint
    check_tokenizer(manifest, fingerprint, folder)
    return [
        StoredShard(
            *(folder, fingerprint, name, shard, manifest.token_dtype, manifest.marked),
            *(manifest.end_of_text, remote),
        )
        for name, split in manifest.splits.items()
        if splits is None or name in splits
        for shard in split.shards
    ]


def workers_for(tokens: int, workers: int | None = None) -> int:
    """Processes that read so many tokens: `workers`, None: every core; 1 for a small corpus."""
    return 1 if tokens < ALONE_BELOW_TOKENS else workers or len(os.sched_getaffinity(0))


def each_in_order(
    work: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int
) -> Iterator[_Result]:
    """`work` of each task, in order; at most two tasks a process are queued at a time."""
    if workers == 1 or len(tasks) < 2:
        yield from map(work, tasks)
        return
    # A forked child would inherit locks that threads of tokenizers hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _leave_interrupts)
    waiting = iter(tasks)
    under_way: deque[Future[_Result]] = deque()
    try:
        for task in islice(waiting, 2 * workers):
            under_way.append(pool.submit(work, task))
        while under_way:
            found = under_way.popleft().result()
            for task in islice(waiting, 1):
                under_way.append(pool.submit(work, task))
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


@lru_cache(maxsize=1)
def _decoder(
    folder: Place, fingerprint: str, remote: RemoteSection
) -> Callable[[Sequence[np.ndarray]], Decoded]:
    """The decoder of a corpus's tokenizer, cached a process by folder and fingerprint."""
    return bulk_decoder(load_tokenizer(folder / "tokenizer", remote).files)
