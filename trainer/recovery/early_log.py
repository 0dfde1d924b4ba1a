"""What a rank says before its log file is open: kept, and written there when it is."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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
