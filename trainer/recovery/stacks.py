"""A rank's stack, written when the process that started it asks, however deep the rank hangs."""

import faulthandler
import os
import signal
from pathlib import Path

STACK_FILE = "LYCEUM_STACK_FILE"
"""Environment variable: where this rank writes its stack when it is asked to."""
STACK_SIGNAL = signal.SIGRTMIN + 6
"""Asks for it: a real-time signal, as SIGUSR1 asks for a stop and SIGUSR2 is the user's."""


def write_stack_when_asked() -> None:
    """Let STACK_SIGNAL write the stacks of all threads, from C: no rank can be too busy for it."""
    path = os.environ.get(STACK_FILE)
    if path and Path(path).parent.is_dir():
        file = Path(path).open("ab", buffering=0)  # noqa: SIM115 (it stays open with the process)
        faulthandler.register(STACK_SIGNAL, file=file, all_threads=True)
