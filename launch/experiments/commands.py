"""What commands of experiments have in common: counts that are given, errors in one line."""

import argparse
import sys
from collections.abc import Iterator
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
