"""`python -m tests.training.dead_place FILE ...`: the command, on a machine of which a place dies.

At step 4 the rank at place 1 dies, and while FILE is there in each start; at step 8 of a later
start rank 0 dies once, and takes FILE with it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from launch.places import PLACE
from trainer.cli import main
from trainer.data.batch import Batch
from trainer.run import Run


def make_fail(dead: Path) -> None:
    """Let ranks die as the file says."""
    begin, inner = Run.__init__, Run.next_batch

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def make(run: Run, *rest: Any, **more: Any) -> None:
        if os.environ[PLACE] == "1" and dead.exists():
            die()
        begin(run, *rest, **more)

    def next_batch(run: Run) -> Batch:
        if os.environ[PLACE] == "1" and run.step == 4 and not dead.with_suffix(".was").exists():
            dead.touch()
            dead.with_suffix(".was").touch()
            die()
        if os.environ["RANK"] == "0" and run.step == 8 and dead.exists():
            dead.unlink()
            die()
        return inner(run)

    Run.__init__ = make  # type: ignore[method-assign]
    Run.next_batch = next_batch  # type: ignore[method-assign]


if __name__ == "__main__":
    make_fail(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
