"""Standard output that nobody reads any more, or that cannot be written."""

import contextlib
import os
import select
import sys

from trainer.errors import RecipeError
from trainer.recovery.boundary import NO_ROOM


def reader_has_left(error: Exception) -> bool:
    """Whether `error` is only that whoever reads our output, such as `head`, has seen enough."""
    descriptor = _descriptor()
    if descriptor is None or not isinstance(error, BrokenPipeError):
        return False
    # Not by flushing: what could not be written may have left the buffer all the same.
    pipe = select.poll()
    pipe.register(descriptor, 0)
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    discard()
    return True


def unwritable(error: BaseException) -> RecipeError | None:
    """What to show where `error` is that standard output cannot be written, as on a full disk.

    None where it is another file's: those errors name their path, or standard output takes more.
    """
    descriptor = _descriptor()
    known = isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None
    if descriptor is None or not known:
        return None
    try:
        os.write(descriptor, b"\n")
    except OSError as fault:
        discard()
        return RecipeError(
            f"standard output cannot be written: {fault.strerror}; make room, or send it elsewhere"
        )
    return None


def discard() -> None:
    """Send standard output nowhere from here on: Python's own flush at exit must not complain."""
    descriptor = _descriptor()
    if descriptor is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _descriptor() -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return sys.stdout.fileno()
    return None
