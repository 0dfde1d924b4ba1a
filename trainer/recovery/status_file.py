"""RUN/status.json as a file: read, written whole, and the last word of a run's end."""

import json
import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.errors import TrainingError
from trainer.files import write_whole
from trainer.parsing import read_json
from trainer.recovery.lock import LAUNCHER
from trainer.recovery.torchrun import torchrun_job, torchrun_restarts

_log = logging.getLogger(__name__)

STATUS = "status.json"
RESTARTS = "LYCEUM_RESTARTS"
"""Environment variable: how often the launcher has started the ranks again."""
_TAIL_BYTES = 1 << 16


def status_of(
    state: str,
    step: int,
    *,
    measuring: str | None = None,
    exit_code: int | None = None,
    reason: str | None = None,
    error: str | None = None,
    rank: int | None = None,
    signal: str | None = None,
    checkpoint: str | None = None,
    restarts: int | None = None,
    replicas: int | None = None,
    goodput: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of status.json; who writes it and when is added.

    state: running, done, stopped or failed; step: the last that is recorded; measuring: what is
    measured after it; exit_code, reason, error (its class), rank and signal: of the end, null while
    running; checkpoint: the name of the last good one; restarts: how often the launcher, or
    torchrun, has started the ranks again; replicas: of the model, that train; goodput: useful time
    over wall time and the losses by name, over all starts (trainer.recovery.goodput); job: the name
    of torchrun's; pid, host: of the launcher, or of the rank that nobody of ours started; updated:
    UTC.
    """
    return {
        "state": state,
        "step": step,
        "measuring": measuring,
        "exit_code": exit_code,
        "reason": reason,
        "error": error,
        "rank": rank,
        "signal": signal,
        "checkpoint": checkpoint,
        "restarts": restarts_before() if restarts is None else restarts,
        "replicas": replicas,
        "goodput": goodput,
        "job": torchrun_job(),
        "pid": int(os.environ.get(LAUNCHER, os.getpid())),
        "host": socket.gethostname(),
        "updated": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def restarts_before() -> int:
    """How often this job's ranks have been started again."""
    return int(os.environ.get(RESTARTS, torchrun_restarts()))


def write_status(run_dir: Path, status: dict[str, Any]) -> None:
    """Write it whole; on a full disk over the old one, in the space that it has.

    Raises TrainingError where it cannot be written at all.
    """
    write_json(Path(run_dir) / STATUS, status, over=True)


def write_json(path: Path, content: dict[str, Any], over: bool = False) -> None:
    """Write a JSON file atomically: a reader sees the old one or the new one.

    `over`: where there is no room for another, or nothing may be added to its folder, over the old
    one. Raises TrainingError where it cannot be
    written.
    """
    text = json.dumps(content, indent=2) + "\n"
    try:
        try:
            write_whole(path, text, durable=False)
        except OSError:
            if not over or not path.is_file():
                raise
            _write_over(path, text.encode())
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}") from None


def _write_over(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        # In one write, so that a reader meets half of it at worst for an instant.
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def read_status(run_dir: Path) -> dict[str, Any] | None:
    """The content of status.json; None where it is missing or no JSON object."""
    try:
        status = read_json((Path(run_dir) / STATUS).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return status if isinstance(status, dict) else None


def carried_on(run_dir: Path) -> dict[str, Any]:
    """What a status that is no rank's of its own takes from the one before: `status_of`'s keys."""
    known = read_status(run_dir) or {}
    return {key: known.get(key) for key in ("replicas", "goodput")}


def recorded_step(run_dir: Path) -> int:
    """The step of the last whole line of metrics.jsonl; 0 without one."""
    try:
        with (Path(run_dir) / "metrics.jsonl").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return 0
    for line in reversed(lines):
        if line.endswith(b"\n"):
            try:
                return int(read_json(line)["step"])
            except (ValueError, KeyError, TypeError):
                continue
    return 0


def tell_missing_records(run_dir: Path, step: int) -> None:
    """Say which steps behind a run's metrics its checkpoint has, and they do not."""
    if 0 < (recorded := recorded_step(run_dir)) < step:
        _log.warning(
            "metrics.jsonl has nothing of steps %d to %d, which are made: their lines waited for "
            "room on the disk when the run ended",
            *(recorded + 1, step),
        )


def begun_by_this_job(run_dir: Path) -> bool:
    """Whether torchrun begins a run again that the same job of its has begun, and not finished."""
    job, status = torchrun_job(), read_status(run_dir) or {}
    return job is not None and status.get("job") == job and status.get("state") != "done"


def left_without_a_word(run_dir: Path) -> str | None:
    """A line about a run that ended without being able to say so; None where it said its end.

    For who has just taken the run's lock: whoever wrote "running" is gone. With a reason beside it
    it is the end of a start behind which torchrun begins another.
    """
    status = read_status(run_dir)
    if status is None or status.get("state") != "running" or status.get("reason"):
        return None
    return (
        f"run {run_dir}: its launcher, process {status.get('pid')} on {status.get('host')}, was "
        f"killed, or its machine went down, some time after step {recorded_step(run_dir)}"
    )
