"""logs/rank-0.log as a report reads it: where the run began, resumed and ended, and warnings."""

import re
from dataclasses import dataclass, field
from pathlib import Path

MOST_EVENTS = 60
"""Of each kind: the last ones are kept, all are counted."""
_LONGEST = 400
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ (\w+) ([\w.]+): (.*)")
_END = re.compile(r"(done|stopped|failed): ")
_BEGIN = re.compile(r"begins at step (\d{1,12}) of \d+, on \d+ ranks?$")


@dataclass(frozen=True)
class LogEvent:
    """A line of the log: when, as it is written there, and what.

    `step`: the step that comes next, where the line says that the run begins or goes on.
    """

    time: str
    text: str
    step: int | None = None


@dataclass
class RunLog:
    """The last MOST_EVENTS of each kind; `warning_count`: of all warnings."""

    course: list[LogEvent] = field(default_factory=list)
    """Where the run began, went on, stopped and ended."""
    warnings: list[LogEvent] = field(default_factory=list)
    warning_count: int = 0

    @property
    def resumed_at(self) -> list[int]:
        """The steps from which the run went on, in the order of time."""
        return [event.step for event in self.course if event.step is not None and event.step > 1]


def read_log(path: Path) -> RunLog:
    """The events of a log, a line at a time; none without a file."""
    found = RunLog()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(1 << 16):
                match = _LINE.match(line)
                if match:
                    _take(found, match[2], match[3], match[1], match[4][:_LONGEST])
    except OSError:
        return found
    return found


def _take(log: RunLog, level: str, logger: str, time: str, text: str) -> None:
    if begin := _BEGIN.match(text):
        kept, event = log.course, LogEvent(time, text, int(begin[1]))
    elif logger == "trainer" and _END.match(text):
        kept, event = log.course, LogEvent(time, text)
    elif level in ("WARNING", "ERROR", "CRITICAL"):
        kept, event = log.warnings, LogEvent(time, text)
        log.warning_count += 1
    else:
        return
    kept.append(event)
    del kept[:-MOST_EVENTS]
