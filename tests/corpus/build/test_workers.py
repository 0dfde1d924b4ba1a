"""The processes of a build: what they run, and what is said where one of them dies."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datatrove.pipeline.base import PipelineStep

from trainer.corpus.build.execute import LocalExecutor
from trainer.errors import TrainingError

SCRIPT = """
import os, sys
from pathlib import Path
print("the script runs", flush=True)
from tests.corpus.build.test_workers import Writes
from trainer.corpus.build.execute import LocalExecutor
folder = Path(sys.argv[1])
LocalExecutor([Writes(folder)], tasks=2, workers=2, logging_dir=str(folder / "logs")).run()
print("built", flush=True)
"""


class Writes(PipelineStep):
    """Leaves a file for each task."""

    type = "test"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        (self.folder / f"task-{rank}").touch()
        yield from ()


class Dies(PipelineStep):
    """Ends its process, as the out-of-memory killer does."""

    type = "test"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        os._exit(9)
        yield


def test_a_script_without_a_guard_is_not_run_by_its_workers(tmp_path: Path) -> None:
    """Catches workers that each begin the script's training anew, and never come to their task."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        **{"cwd": Path(__file__).parents[3], "env": {**os.environ, "PYTHONPATH": "."}},
        **{"capture_output": True, "text": True, "timeout": 600},
    )
    assert (done.returncode, done.stdout) == (0, "the script runs\nbuilt\n"), done.stderr
    assert sorted(path.name for path in tmp_path.glob("task-*")) == ["task-0", "task-1"]


def test_a_worker_that_dies_ends_the_build(tmp_path: Path) -> None:
    """Catches a build that waits for ever for the task of a process that is no more."""
    executor = LocalExecutor([Dies()], tasks=2, workers=2, logging_dir=str(tmp_path / "logs"))
    with pytest.raises(TrainingError, match=r"build died \(exit code 9\): .* corpus\.workers"):
        executor.run()
