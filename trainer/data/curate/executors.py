"""datatrove's executors: its tasks and their marks, without the account it gives of itself."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import multiprocess
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from loguru import logger


class LocalExecutor(LocalPipelineExecutor):
    """A pool of processes on this machine; its log goes to files only.

    datatrove's own `run` starts a manager process, which lives on for ever when its parent is
    killed, and holds the parent's output open. A pool's processes end with their parent.
    """

    def run(self) -> None:
        """Run the tasks that have not ended yet."""
        ranks = self.get_incomplete_ranks(range(self.tasks))
        if not ranks:
            return
        if self.workers == 1:
            for rank in ranks:
                deepcopy(self).run_task(rank)
            return
        with multiprocess.get_context(self.start_method).Pool(self.workers) as pool:
            for _ in pool.imap_unordered(self.run_task, ranks):
                pass

    def run_task(self, rank: int) -> None:
        """Run one task; in a pool, this is another process."""
        with _quietly():
            self._run_for_rank(rank)


class SlurmExecutor(SlurmPipelineExecutor):
    """A job array; datatrove's further job that adds up its own statistics is left out."""

    def launch_job(self) -> None:
        """Submit the array, and first what it depends on."""
        with _quietly():
            super().launch_job()

    def launch_merge_stats(self) -> None:
        """Nothing: the build keeps its own counts."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Datatrove logs to whatever sys.stderr is when a task begins; its log files say the same."""
    before = sys.stderr
    logger.remove()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stderr = before
            logger.remove()
