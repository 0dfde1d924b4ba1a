"""Who writes how a run ended where a rank fails: launcher, first rank, or the rank itself."""

import logging
import os
from pathlib import Path

from trainer.errors import ContactLost, RankFailed, TrainingError
from trainer.recovery.lock import LAUNCHER
from trainer.recovery.status_file import (
    carried_on,
    read_status,
    recorded_step,
    status_of,
    write_status,
)

_log = logging.getLogger(__name__)


def told_by_another(run: Path, error: BaseException | None) -> bool:
    """Whether a rank that lost the others finds their failure written already."""
    if not isinstance(error, ContactLost):
        return False
    return (read_status(run) or {}).get("state") == "failed"


def tell_own_failure(run: Path, rank: int, error: BaseException | None) -> None:
    """Write that this rank failed where neither a launcher nor the first rank can know it."""
    cause = isinstance(error, RankFailed) and not isinstance(error, ContactLost)
    if not cause or LAUNCHER in os.environ:
        return
    status = status_of(
        "failed",
        recorded_step(run),
        exit_code=RankFailed.exit_code,
        reason=str(error),
        error=type(error).__name__,
        rank=rank,
        **carried_on(run),
    )
    try:
        write_status(run, status)
    except TrainingError as fault:
        _log.warning("%s", fault)
