"""Numbers and states as a reader of a report meets them in sentences and tables."""

import math

from trainer.evaluate.intervals import Figure
from trainer.report.page.table import Cell
from trainer.report.plots.amounts import amount
from trainer.report.reading.run_record import RunRecord

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_STATES = {
    "done": "done",
    "stopped": "stopped on request; the same command goes on",
    "failed": "failed",
    "running": "running while this was written",
    "killed": "ended without a word: its process is gone, and the same command goes on",
    "unknown": "nothing says how it ended",
}


def count_of(number: int | None, unit: str) -> str:
    """A number with its unit: "1 step", "1,100 steps"; "steps unknown" for None."""
    if number is None:
        return f"{unit}s unknown"
    return f"{number:,} {unit}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """A time in its two largest units: "42 s", "12 min 5 s", "3 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    rest, parts = round(seconds), list[str]()
    for size, name in _UNITS:
        whole, rest = divmod(rest, size)
        if whole or parts:
            parts.append(f"{whole} {name}" if whole else "")
    return " ".join(filter(None, parts[:2]))


def size_of(number_of_bytes: float) -> str:
    """Bytes in the unit that suits them: "35.2 MB"."""
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number_of_bytes >= size:
            return f"{number_of_bytes / size:.3g} {name}"
    return f"{number_of_bytes:.0f} bytes"


def figure_cell(figure: Figure | None) -> Cell:
    """A figure with its interval as a cell; a count without one, none without a value."""
    if figure is None or not math.isfinite(figure.value):
        return None
    if figure.better is None and figure.value.is_integer() and abs(figure.value) > 1:
        return int(figure.value)
    return (figure.value, figure.low, figure.high)


def value_text(value: float | None) -> str:
    """A number in a sentence."""
    return "unknown" if value is None else amount(value, 4)


def state_of(record: RunRecord) -> str:
    """How a run ended, or that it has not."""
    if record.merge is not None:
        return "merged"
    reason = record.status.get("reason")
    words = _STATES[record.state]
    return f"{words} ({reason})" if reason and record.state in ("stopped", "failed") else words
