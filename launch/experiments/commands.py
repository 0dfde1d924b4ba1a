"""What commands of experiments have in common: counts that are given, errors in one line, and
commands that they start.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from trainer.errors import LyceumError, shown


def at_least_one(text: str) -> int:
    """A count of a command line; its error is a line of argparse's."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no count; give 1 or more")
    return int(text)


def zero_or_more(text: str) -> int:
    """The same, where 0 leaves something out."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no count; give 0 or more")
    return int(text)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Inside the block an error that a user can cause ends the process with its line and code."""
    try:
        yield
    except LyceumError as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command to its end; `environment`: what it has beside this process's own.

    SIGTERM is passed on and the end waited for: what trains saves first. Raises SystemExit with the
    exit code of a command that fails, which has said why.
    """
    started: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        for child in started:
            child.terminate()

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        with subprocess.Popen(command, env={**os.environ, **environment}) as child:
            started.append(child)
            if asked:  # before the child could be told
                child.terminate()
            code = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        raise SystemExit(code if code > 0 else 128 - code)
