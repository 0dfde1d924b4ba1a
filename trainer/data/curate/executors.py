"""datatrove's executors, without the account that they give of themselves on the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from loguru import logger


class LocalExecutor(LocalPipelineExecutor):
    """A pool of processes on this machine; its log goes to files only."""

    def run(self) -> Any:
        """Run what has not ended yet."""
        with _quietly():
            return super().run()

    def _launch_run_for_rank(self, *arguments: Any, **keywords: Any) -> Any:
        with _quietly():  # In a worker this is another process.
            return super()._launch_run_for_rank(*arguments, **keywords)


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
