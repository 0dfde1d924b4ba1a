"""metrics.jsonl as a report reads it: a line at a time, what is drawn in bounded memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from trainer.errors import DataError
from trainer.parsing import read_json
from trainer.report.reading.thinning import ThinnedSeries

METRICS = "metrics.jsonl"
MOST_SKIPPED = 200
"""Skipped steps that are named; all are counted."""
_LONGEST_LINE = 1 << 22
"""Bytes: a line beyond is no record of a step."""
_MOST_SERIES = 4000
_NOT_DRAWN = frozenset({"step", "skipped", "tokens", "supervised_tokens"})


@dataclass
class RunSteps:
    """The steps of a run: `series` by the names of metrics.jsonl, and what was only counted.

    `seconds`: the sum of step_seconds, without evaluating and saving; `tokens`,
    `supervised_tokens`: as the last step has them, None where it does not say; `skipped`: the
    first of the skipped steps, `skipped_count` all; `torn`: whether the last line was cut short;
    `damaged`: numbers of the first other lines that are no record of a step, `damaged_count` all.
    """

    series: dict[str, ThinnedSeries] = field(default_factory=dict)
    count: int = 0
    first: int = 0
    last: int = 0
    seconds: float = 0.0
    tokens: int | None = None
    supervised_tokens: int | None = None
    skipped: list[int] = field(default_factory=list)
    skipped_count: int = 0
    torn: bool = False
    damaged: list[int] = field(default_factory=list)
    damaged_count: int = 0

    def last_value(self, name: str) -> float | None:
        """The last value of a series; None where it has none."""
        found = self.series.get(name)
        return None if found is None or found.last is None else found.last[1]

    def named(self, prefix: str) -> list[str]:
        """The series with a value whose names begin so, in the order in which they came."""
        return [name for name, one in self.series.items() if name.startswith(prefix) and one.count]


def read_steps_of(run: Path) -> RunSteps:
    """The steps in RUN/metrics.jsonl, one line in memory at a time.

    A cut last line is left out, and said (`torn`), and so are lines that are damaged (`damaged`).
    Raises DataError where there is no such file, or no step in it.
    """
    path, found = run / METRICS, RunSteps()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file), 1):
                _take(found, number, line)
    except FileNotFoundError:
        raise DataError(
            f"{run}: holds no {METRICS}, so it has never made a step; train it first"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not found.count and found.damaged_count:
        raise DataError(f"{path}: none of its lines is a step's record; put the run's own back")
    if not found.count:
        raise DataError(f"{path}: no step is finished yet; report when some are")
    return found


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long no more than its first part, as if cut."""
    while line := file.readline(_LONGEST_LINE):
        yield line
        while not line.endswith(b"\n") and (line := file.readline(_LONGEST_LINE)):
            pass


def _take(steps: RunSteps, number: int, line: bytes) -> None:
    if steps.torn:  # something follows: that one was too long, not the last
        steps.torn = False
        _damaged(steps, number - 1)
    if not line.endswith(b"\n"):
        steps.torn = True
        return
    record = _record(line)
    if record is None or record["step"] <= steps.last:
        _damaged(steps, number)
        return
    step = steps.last = record["step"]
    steps.first = steps.first or step
    steps.count += 1
    if record.get("skipped") is True:
        steps.skipped_count += 1
        if len(steps.skipped) < MOST_SKIPPED:
            steps.skipped.append(step)
    steps.tokens = _whole(record.get("tokens"), steps.tokens)
    steps.supervised_tokens = _whole(record.get("supervised_tokens"), steps.supervised_tokens)
    steps.seconds += _number(record.get("step_seconds")) or 0.0
    for name, value in record.items():
        number_ = _number(value)
        if name in _NOT_DRAWN or (number_ is None and value is not None):
            continue
        series = steps.series.get(name)
        if series is None:
            if len(steps.series) >= _MOST_SERIES:
                continue
            series = steps.series[name] = ThinnedSeries()
        series.add(step, number_)


def _damaged(steps: RunSteps, number: int) -> None:
    steps.damaged_count += 1
    if len(steps.damaged) < 5:
        steps.damaged.append(number)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = read_json(line)
    except (ValueError, RecursionError):
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if type(step) is int and step > 0 else None


def _number(value: Any) -> float | None:
    """A finite number; None for all else."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if type(value) is not int:
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _whole(value: Any, otherwise: int | None) -> int | None:
    return value if type(value) is int and value >= 0 else otherwise
