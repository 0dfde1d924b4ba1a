"""metrics.jsonl: one JSON object a step."""

import json
import logging
import math
import os
from collections import deque
from pathlib import Path
from typing import Any

from trainer.errors import TrainingError
from trainer.files import whole_file
from trainer.observe.callback import Callback, RunStart
from trainer.parsing import read_json
from trainer.recovery.boundary import NO_ROOM

_log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
REPLACED = "metrics-replaced.jsonl"


class MetricsWriter(Callback):
    """Appends each step's record to RUN/metrics.jsonl, floats at full precision.

    A line is one write, so that a killed run leaves at most its last line incomplete. Values that
    are not finite become null, as JSON cannot express them. Where there is no room the lines wait
    in memory, and training goes on; they are written as soon as there is.
    """

    def __init__(self) -> None:
        self._path = Path(METRICS)
        self._descriptor: int | None = None
        self._waiting: deque[bytes] = deque()
        self._told = False

    def on_start(self, run: RunStart) -> None:
        """Open the file for appending. Raises TrainingError where it cannot be written."""
        self._path = run.folder / METRICS
        try:
            self._open()
        except OSError as error:
            raise TrainingError(f"{self._path} cannot be written: {error.strerror}") from None

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def on_step(self, record: dict[str, Any]) -> None:
        """Write the record, and those that wait; where there is no room it waits too."""
        self._waiting.append(_line(record))
        self._write()

    def _write(self) -> OSError | None:
        """Write the lines that wait; why they still do, if so."""
        assert self._descriptor is not None, "on_start comes first"
        try:
            while self._waiting:
                line = self._waiting[0]
                while line:  # the rest of a write that was cut short
                    line = line[os.write(self._descriptor, line) :]
                    self._waiting[0] = line
                self._waiting.popleft()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if not self._told:
                _log.warning(
                    "%s cannot be written: %s; its lines wait in memory, and training goes on: "
                    "make room",
                    *(self._path, error.strerror),
                )
            self._told = True
            return error
        if self._told:
            _log.info("%s is written again, with every line that waited", self._path)
        self._told = False
        return None

    def on_conclude(self) -> None:
        """Write what waits. Raises TrainingError where there is still no room: it is lost then."""
        if self._waiting and (error := self._write()) is not None:
            raise TrainingError(
                f"{self._path} cannot be written: {error.strerror}; its last {len(self._waiting)} "
                "lines are lost: make room, and resume from an earlier checkpoint for them"
            )

    def on_amend(self, step: int, values: dict[str, float]) -> None:
        """Add values to the record of a step. Raises TrainingError where it cannot be written."""
        if self._waiting and self._write() is not None:
            self._amend_waiting(step, values)
            return
        self._close()
        try:
            with self._path.open("rb") as source, whole_file(self._path) as amended:
                for line in source:
                    record = _record(line)
                    if record is not None and record["step"] == step:
                        line = _line(record | values)
                    amended.write(line)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise TrainingError(f"{self._path} cannot be written: {error.strerror}") from None
            _log.warning("%s: %s: step %d lacks %s", self._path, error.strerror, step, list(values))
        self._open()

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Close the file."""
        if self._waiting and self._write() is not None:
            _log.error("%s: %d lines could not be written", self._path, len(self._waiting))
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _amend_waiting(self, step: int, values: dict[str, float]) -> None:
        record = _record(self._waiting[-1])
        if record is not None and record["step"] == step:
            self._waiting[-1] = _line(record | values)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The records of a run, in order; [] without a file. An incomplete last line is left out."""
    try:
        lines = (Path(run_dir) / METRICS).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    records = (_record(line) for line in lines)
    return [record for record in records if record is not None]


def truncate_metrics(run_dir: Path, step: int) -> int:
    """Move the records after `step` and incomplete lines to metrics-replaced.jsonl; their number.

    On resume, so that the next record continues the file without gap or repetition, and nothing
    that was measured is lost.
    """
    return truncate_records(Path(run_dir) / METRICS, step, Path(run_dir) / REPLACED)


def truncate_records(path: Path, step: int, moved_to: Path | None = None) -> int:
    """Remove the records after `step` and incomplete lines, atomically; returns their number.

    Of any file with a JSON object a line that has its `step`. They go to the end of `moved_to`.
    """
    removed: list[bytes] = []
    try:
        source = path.open("rb")
    except FileNotFoundError:
        return 0
    with source, whole_file(path) as remaining:
        for line in source:
            record = _record(line)
            if record is not None and record["step"] <= step:
                remaining.write(line)
            else:
                removed.append(line if line.endswith(b"\n") else line + b"\n")
        if removed and moved_to is not None:
            with moved_to.open("ab") as file:
                file.writelines(removed)
                file.flush()
                os.fsync(file.fileno())
    return len(removed)


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = read_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps({key: _finite(value) for key, value in record.items()}).encode() + b"\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
