"""The note that a failing rank leaves for the process that started it."""

import json
import os
import time
import traceback
from pathlib import Path
from typing import Any, TypedDict

from trainer.addresses import redacted
from trainer.errors import ContactLost, ErrorNote, LyceumError, RankFailed, note_of

FAILURE_FILE = "LYCEUM_FAILURE_FILE"
"""Environment variable: where this rank leaves its error instead of printing it."""


class FailureNote(TypedDict):
    """Why a rank fails, as it knew at once.

    `error`: what a user caused, or what was made of anything else; null for a bare fault. `trace`:
    the stack; `seconds`: when, by this machine's monotonic clock.
    """

    error: ErrorNote | None
    trace: str
    seconds: float


def write_note(error: BaseException, shown: LyceumError | None = None) -> bool:
    """Leave a note of `error` where the starting process looks for it; False where nobody does.

    `shown`: the line that stands for it. A rank's first note stays: what comes later follows.
    """
    path = os.environ.get(FAILURE_FILE)
    if path is None:
        return False
    if Path(path).exists():
        return True
    named = shown or (error if isinstance(error, LyceumError) else None)
    note: FailureNote = {
        "error": None if named is None else note_of(named),
        "trace": redacted("".join(traceback.format_exception(error))),
        "seconds": time.monotonic(),
    }
    half = Path(f"{path}.half")
    try:
        half.write_text(json.dumps(note), encoding="utf-8")
        half.rename(path)
    except OSError:
        return False  # The disk is full or the starter is gone: print it after all.
    return True


def read_note(path: Path) -> FailureNote | None:
    """What `write_note` left; None without a note."""
    try:
        note: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found: FailureNote = note
    return found


def failed_alone(note: FailureNote) -> bool:
    """Whether what a rank noted is its own failure, which the others do not share or see."""
    kinds = note["error"]["kinds"] if note["error"] else []
    return RankFailed.__name__ in kinds and ContactLost.__name__ not in kinds
