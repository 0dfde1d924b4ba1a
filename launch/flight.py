"""Asks ranks for their flight records, and writes them beside the stacks of a frozen run."""

import json
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from trainer.recovery.flight import answer_of, missing

_log = logging.getLogger(__name__)
_ANSWER_SECONDS = 2.0


def make_pipe(path: Path) -> None:
    """Make the pipe at which a rank is asked, anew for each start."""
    path.unlink(missing_ok=True)
    answer_of(path).unlink(missing_ok=True)
    os.mkfifo(path)


def write_flight_records(pipes: dict[int, Path], path: Path) -> str:
    """Write what the ranks' recorders have to `path`; words that say where, "" where none answered.

    Logs which rank has entered fewer collectives than the others.
    """
    asked = [rank for rank, pipe in pipes.items() if _ask(pipe)]
    _wait_for(answer_of(pipes[rank]) for rank in asked)
    records = {}
    for rank in asked:
        with suppress(OSError, ValueError):
            records[rank] = json.loads(answer_of(pipes[rank]).read_bytes())
    if not any(records.values()):
        return ""
    if said := missing(records):
        _log.warning("%s", said)
    try:
        path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, error.strerror)
        return ""
    return f", the last collectives in {path}"


def _ask(pipe: Path) -> bool:
    """Come and go at a pipe; False where nobody waits there."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _wait_for(answers: Iterable[Path]) -> None:
    left = set(answers)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while left and time.monotonic() < deadline:
        left = {path for path in left if not path.exists()}
        time.sleep(0.02)
