"""Prefetching the shards that will be read next, in background threads."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from trainer.data.manifest import Shard
from trainer.data.remote.transfer import Attempts, Cancelled
from trainer.errors import DataError

log = logging.getLogger(__name__)

THREADS = 4
"""Shards fetched at once; one connection seldom fills a network."""


class Closable(Protocol):
    """A fetched item, which stays available until it is closed."""

    def close(self) -> None:
        """Release it."""


_T = TypeVar("_T", bound=Closable)

Fetch = Callable[[Shard, Attempts, bool], _T]
"""Fetches a shard; the last argument says whether to wait for room in the cache."""


class _Task(Generic[_T]):
    def __init__(self, shard: Shard, needed: bool):
        self.shard, self.needed = shard, needed
        self.begun = False
        self.cancelled, self.done = threading.Event(), threading.Event()
        self.result: _T | None = None
        self.error: BaseException | None = None


class ReadAhead(Generic[_T]):
    """What `fetch` brings of a list of shards, from a few threads, in the list's order.

    It changes when a shard comes and nothing else: `take` gives what a direct call of `fetch`
    would give. The threads end when the list is done, and with the process.
    """

    def __init__(self, fetch: Fetch[_T], attempts: Attempts):
        self._fetch, self._attempts = fetch, attempts
        self._process, self._lock, self._threads = os.getpid(), threading.Lock(), 0
        self._tasks: dict[str, _Task[_T]] = {}

    def expect(self, present: Sequence[Shard], ahead: Sequence[Shard]) -> None:
        """Start to fetch `present`, which is taken next, then `ahead`; drop everything else."""
        self._follow_fork()
        with self._lock:
            needed = {shard.name: shard for shard in present}
            wanted = needed | {s.name: s for s in ahead if s.name not in needed}
            for name in [name for name in self._tasks if name not in wanted]:
                self._drop(self._tasks.pop(name))
            self._tasks = {
                name: self._tasks.get(name) or _Task(shard, name in needed)
                for name, shard in wanted.items()
            }
            waiting = sum(not task.begun for task in self._tasks.values())
            for _ in range(min(THREADS - self._threads, waiting)):
                self._threads += 1
                threading.Thread(target=self._work, args=(self._lock,), daemon=True).start()

    def take(self, shard: Shard) -> _T:
        """The shard, once it is fetched; the caller closes it. Raises what `fetch` raises."""
        self._follow_fork()
        with self._lock:
            task = self._tasks.pop(shard.name, None)
            if task is not None and not task.begun:
                task = None
        if task is None:
            return self._fetch(shard, self._attempts, True)
        task.done.wait()
        if task.result is not None:
            return task.result
        if task.needed and task.error is not None:
            raise task.error
        # The prefetch failed before the shard was needed, perhaps long ago: try once more.
        return self._fetch(shard, self._attempts, True)

    def close(self) -> None:
        """Drop everything that was expected."""
        self.expect([], [])

    def _follow_fork(self) -> None:
        """Start afresh in a forked process: it has none of the threads, and a lock of any state."""
        if self._process != os.getpid():
            self._process, self._lock, self._threads = os.getpid(), threading.Lock(), 0
            self._tasks = {}

    def _drop(self, task: _Task[_T]) -> None:
        task.cancelled.set()
        if task.result is not None:
            task.result.close()

    def _work(self, lock: threading.Lock) -> None:
        while True:
            with lock:
                task = next((task for task in self._tasks.values() if not task.begun), None)
                if task is None:
                    self._threads -= 1
                    return
                task.begun = True
            self._run(task)
            with lock:
                task.done.set()
                if task.cancelled.is_set():
                    self._drop(task)

    def _run(self, task: _Task[_T]) -> None:
        attempts = replace(self._attempts, cancelled=task.cancelled.is_set)
        try:
            task.result = self._fetch(task.shard, attempts, task.needed)
        except Cancelled:
            pass
        except DataError as error:
            task.error = error
            if not task.needed:
                log.info("fetching ahead failed, and is tried again when needed: %s", error)
        except BaseException as error:  # a bug, to be shown where it is waited for
            task.error, task.needed = error, True
