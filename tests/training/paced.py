"""`python -m tests.training.paced STEPS ...`: the command, whose ranks wait where they shall.

No rank begins a step behind the one that the file STEPS names, unless it is asked to stop: a test
then knows at which step a node is lost, however busy the machine is.
"""

import sys
import time
from pathlib import Path

import trainer.loop
from trainer.cli import main
from trainer.data.batch import Batch
from trainer.recovery import StopSignals
from trainer.run import Run


def pace(steps: Path) -> None:
    """Let no step begin that `steps` does not allow yet."""
    known: list[StopSignals] = []
    inner = Run.next_batch

    class KnownSignals(StopSignals):
        def __enter__(self) -> StopSignals:
            known.append(self)
            return super().__enter__()

    def next_batch(run: Run) -> Batch:
        while run.step >= int(steps.read_text()) and known[-1].requested is None:
            time.sleep(0.02)
        return inner(run)

    trainer.loop.StopSignals = KnownSignals  # type: ignore[misc]
    Run.next_batch = next_batch  # type: ignore[method-assign]


if __name__ == "__main__":
    pace(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
