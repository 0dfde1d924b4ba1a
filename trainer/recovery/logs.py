"""Log files that hide no other failure, and what a rank says before its own is open."""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class QuietFile(logging.FileHandler):
    """A log file, opened at its first line, of which no failure hides another: a full disk, or a
    folder that is gone, costs the line. logging would print a stack trace for each.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or drop it."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Drop the record."""

    def close(self) -> None:
        """Close the file; what is left in its buffer may find the disk full."""
        with contextlib.suppress(OSError):
            super().close()


class EarlyRecords(logging.Handler):
    """Keeps the records of the start, INFO and above; prints nothing."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)


@contextmanager
def kept_for_the_log() -> Iterator[None]:
    """Keep what `trainer` says in this block until a rank's log takes it (`take_early_records`).

    With this handler a rank that does not print has one, without which logging would print its
    warnings all the same.
    """
    handler = EarlyRecords()
    logger = logging.getLogger("trainer")
    level = logger.level
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def take_early_records(logger: logging.Logger) -> list[logging.LogRecord]:
    """What was kept, oldest first; nothing more is kept from here on."""
    taken: list[logging.LogRecord] = []
    for handler in [h for h in logger.handlers if isinstance(h, EarlyRecords)]:
        logger.removeHandler(handler)
        taken += handler.records
    return taken
