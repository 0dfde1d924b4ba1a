"""How a part ended, and why in one line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["done", "failed", "out of time", "not run"]


@dataclass(frozen=True)
class Outcome:
    """`exit_code` is null where it ran out of time or was not run."""

    part: str
    command: str
    state: State
    reason: str
    """One line; empty where it is done."""
    exit_code: int | None
    seconds: float
    allowed_seconds: float
    leaves: list[str]
    tail: list[str]
    """The last lines of what it printed."""


def reason_of(code: int | None, allowed_seconds: float, lines: Sequence[str]) -> str:
    """Why a part is not done, in a line: the exit code and the last thing it said."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    last = last if len(last) <= 240 else f"{last[:237]}..."
    if code is None:
        return f"ran out of its {allowed_seconds:.0f} s; its last line: {last}"
    if code == 0:
        return ""
    missing = re.search(r"No module named '([\w.-]+)'", " ".join(lines[-3:]))
    if missing:
        return f"needs {missing[1].partition('.')[0]}, which is not installed"
    killed = f"signal {-code}" if code < 0 else f"exit {code}"
    return f"{killed}: {last}"
