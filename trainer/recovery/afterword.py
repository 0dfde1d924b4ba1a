"""The last word of a run that torchrun stopped: written once torchrun's own process has ended.

A change of nodes reaches a rank as the signal that also ends a job, and only torchrun's process
knows which it is: it goes on and starts ranks again, or it ends. `python -m` this module waits for
either.
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.errors import StopRequested, TrainingError
from trainer.recovery.signals import STOPPING
from trainer.recovery.status_file import read_status, write_status

_LOOK_SECONDS = 1.0


def leave_afterword(run_dir: Path) -> None:
    """Start a process that writes "stopped" when this process's parent has ended, unless the run
    has been begun again by then. For what stands in status.json now.
    """
    command = [sys.executable, "-m", __name__, str(run_dir), str(os.getppid())]
    with suppress(OSError):
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def write_afterword(run_dir: Path, parent: int, left: dict[str, Any] | None) -> bool:
    """Wait for the end of process `parent`; whether the status was still `left` and is amended.

    `left` tells why the run was stopped: without a reason it is of a later start.
    """
    if left is None or not left.get("reason"):
        return False
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:
        pass  # it has ended
    else:
        with os.fdopen(descriptor) as file:
            while not select.select([file], [], [], _LOOK_SECONDS)[0]:
                if read_status(run_dir) != left:
                    return False
    if read_status(run_dir) != left:
        return False
    with suppress(TrainingError):
        write_status(run_dir, left | {"state": "stopped", "exit_code": StopRequested.exit_code})
    return True


def main() -> None:
    """The arguments: run directory and process id."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # they ask the job, of which this tells
    run_dir = Path(sys.argv[1])
    write_afterword(run_dir, int(sys.argv[2]), read_status(run_dir))


if __name__ == "__main__":
    main()
