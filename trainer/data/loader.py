"""Batches for the training loop, prefetched by workers; their order does not depend on how many."""

import atexit
import re
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch._C import _error_if_any_worker_fails
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from trainer.data.batch import Batch, PackedRows
from trainer.data.stream import Stream
from trainer.errors import DataError, LyceumError, RankFailed

_DEAD_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)")

_open: "weakref.WeakSet[Loader]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Stop the workers of loaders that were not closed.

    multiprocessing waits at exit for its children after a SIGTERM, which these leave alone: the
    process would never end. Registered after torch's and multiprocessing's own, this runs first.
    """
    for loader in list(_open):
        loader.close()


class Loader:
    """An endless iterator over the batches of a stream, from a saved state or from the start.

    `stream_arguments` construct the Stream. `rows` are this rank's rows of each global batch of
    `global_batch` sequences. Worker w of W makes batches w, w + W, ..., `prefetch` of them ahead;
    `workers=0` makes them in this process. `state` is the `Batch.state` to resume after, None: the
    beginning. `sequences` is how many the whole run reads: DataError at once where the data
    certainly ends before. `pinned`: batches are in pinned memory, so that copies to a GPU are
    asynchronous. A worker's error is raised here, at the batch that it concerns, and closes the
    loader.
    """

    def __init__(
        self,
        stream_arguments: dict[str, Any],
        global_batch: int,
        rows: Sequence[int],
        workers: int = 1,
        prefetch: int = 2,
        state: dict[str, Any] | None = None,
        sequences: int = 0,
        pinned: bool = False,
    ):
        stream = Stream(**stream_arguments)
        most = stream.most_sequences()
        if most is not None and most < sequences:
            raise DataError(
                f"the run wants {sequences} sequences, and its corpora have at most {most} as often"
                " as their epochs allow: raise data.mixture's epochs, add a corpus, or lower steps"
            )
        if state is not None:
            stream.load_state(state)
        batches = _PackedBatches(stream, global_batch, rows)
        self._batches: Iterator[PackedRows | LyceumError]
        if workers == 0:
            self._batches = iter(batches)
        else:
            before = signal.getsignal(signal.SIGCHLD)
            self._batches = iter(
                DataLoader(
                    batches,
                    batch_size=None,
                    num_workers=workers,
                    prefetch_factor=prefetch,
                    worker_init_fn=_ignore_signals,
                )
            )
            if _in_main_thread():
                # torch's would raise a dead worker's error wherever this process is just then.
                signal.signal(signal.SIGCHLD, before)
        self._has_workers = workers > 0
        self._pinned = pinned
        _open.add(self)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        packed: PackedRows | LyceumError
        try:
            with _heeding_dead_workers() if self._has_workers else nullcontext():
                packed = next(self._batches)
        except RuntimeError as error:
            # Not raised here: its traceback would keep a reference to the other workers.
            packed = _worker_death(error)
        if isinstance(packed, LyceumError):
            self.close()
            raise packed
        return packed.unpack(self._pinned)

    def close(self) -> None:
        """Stop the workers."""
        self._batches = iter(())
        _open.discard(self)


@contextmanager
def _heeding_dead_workers() -> Iterator[None]:
    """Raise RuntimeError at once, and in this block alone, where a worker of a loader has died."""
    if not _in_main_thread():
        yield  # torch looks at its workers every five seconds, and no signal reaches a thread
        return
    before = signal.signal(signal.SIGCHLD, lambda *_: _error_if_any_worker_fails())
    try:
        _error_if_any_worker_fails()
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _worker_death(error: RuntimeError) -> RankFailed:
    """What torch's loader says of a dead worker, as this rank's failure."""
    # Where it was waiting, torch knows how the worker ended, and raises that it did.
    known = error.__cause__ if isinstance(error.__cause__, RuntimeError) else error
    said = " ".join(str(known).splitlines()[0].split()).partition(". ")[0].rstrip(".")
    found = _DEAD_WORKER.search(said)
    what = said if found is None else f"process {found[1]}, {found[2]}"
    return RankFailed(
        f"its data worker, {what}: look for the out-of-memory killer in the system log, and lower"
        " data.workers or data.prefetch"
    )


class _PackedBatches(IterableDataset):
    def __init__(self, stream: Stream, global_batch: int, rows: Sequence[int]):
        self._stream = stream
        self._global_batch = global_batch
        self._rows = list(rows)

    def __iter__(self) -> Iterator[PackedRows | LyceumError]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        try:
            self._stream.skip(number * self._global_batch)
            while True:
                yield self._stream.next_packed(self._global_batch, self._rows)
                self._stream.skip((workers - 1) * self._global_batch)
        except LyceumError as error:
            # Raised in the worker, it would reach the parent as this process's stack trace.
            yield error


def _ignore_signals(worker: int) -> None:
    """Leave CTRL-C and the cluster's signals to the training process, which saves before it stops.

    They reach the whole process group; a worker that obeyed would take the run down unsaved. It
    ends when the loader is closed, or by itself when its parent is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def validation_batches(
    stream_arguments: dict[str, Any],
    count: int,
    global_batch: int,
    rows: Sequence[int],
    split: str = "validation",
) -> Iterator[Batch]:
    """The first `count` packed sequences of a split, fewer where its first epoch is shorter.

    They are the same for every run and layout that shares data and packing, and throughout a run:
    its seed, its curriculum and how often a source may be read play no part. Each batch has
    `global_batch` sequences, of which `rows` are returned; the last is filled up with rows of
    padding alone, so that all ranks make the same number of steps.
    """
    unlike_training = {"split": split, "seed": 0, "epochs": None, "curriculum": ()}
    stream = Stream(**{**stream_arguments, **unlike_training})
    try:
        left = count
        while left > 0 and not stream.ends_epoch():
            batch = stream.next(global_batch, rows, at_most=left)
            left -= global_batch
            yield batch
    finally:
        stream.close()
