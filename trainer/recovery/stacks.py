"""A rank's stack, written when the process that started it asks, however deep the rank hangs."""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

STACK_FILE = "LYCEUM_STACK_FILE"
"""Environment variable: where this rank writes its stack when it is asked to."""
STACK_SIGNAL = signal.SIGRTMIN + 6
"""Asks for it: a real-time signal, as SIGUSR1 asks for a stop and SIGUSR2 is the user's."""

_ROOT = Path(__file__).parents[2]
_COLLECTIVES = ("torch/distributed/distributed_c10d.py", "deepspeed/comm/torch.py")
_WEIGHTS = "deepspeed/runtime/zero/partition_parameters.py"
_EXCHANGE = "megatron/core/pipeline_parallel/p2p_communication.py"


def write_stack_when_asked() -> None:
    """Let STACK_SIGNAL write the stacks of all threads, from C: no rank can be too busy for it."""
    path = os.environ.get(STACK_FILE)
    if path and Path(path).parent.is_dir():
        file = Path(path).open("ab", buffering=0)  # noqa: SIM115 (it stays open with the process)
        faulthandler.register(STACK_SIGNAL, file=file, all_threads=True)


StackFrame = tuple[str, int, str]
"""A line of a stack: file, line, function."""


def collective_of(frames: Sequence[StackFrame]) -> str | None:
    """The collective that a stack waits in, innermost frame first; None where it waits in none."""
    for path, _, function in frames:
        if path.endswith(_COLLECTIVES) and function != "wrapper":
            return function
        if path.endswith(_WEIGHTS) and function == "wait":
            return "an all-gather of weights"
        if path.endswith(_EXCHANGE):
            return f"a pipeline exchange ({function})"
    return None


def line_of(frames: Sequence[StackFrame]) -> str:
    """The innermost line of our own code in a stack, or else of anybody's."""
    for path, line, function in frames:
        if Path(path).is_relative_to(_ROOT) and "site-packages" not in path:
            return f"{Path(path).relative_to(_ROOT)}:{line} ({function})"
    return f"{frames[0][0]}:{frames[0][1]} ({frames[0][2]})" if frames else "an unknown line"


def frames_of_main_thread() -> list[StackFrame]:
    """Where this process's main thread stands, innermost frame first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    found = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return found
