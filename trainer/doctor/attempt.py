"""One thing tried among many: what became of it, in a line, so that the rest goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "failed", "refused", "not run"]


@dataclass(frozen=True)
class Attempt:
    """`refused`: what a back end or library may say no to, and did; it fails nothing."""

    case: str
    state: State
    reason: str
    """One line; what was found, where all is well."""
    seconds: float = 0.0
    losses: tuple[float, ...] = ()


class NotRunError(Exception):
    """The case needs what this machine has not."""


def attempt(
    case: str, action: Callable[[], str | tuple[str, tuple[float, ...]]], may_refuse: bool = False
) -> Attempt:
    """Do it; an exception becomes the reason. `action` returns what it found, and any losses."""
    started = time.perf_counter()
    losses: tuple[float, ...] = ()
    state: State = "ok"
    try:
        found = action()
        reason, losses = (found, ()) if isinstance(found, str) else found
    except NotRunError as missing:
        state, reason = "not run", str(missing)
    except ModuleNotFoundError as missing:
        state, reason = "not run", f"needs {missing.name}, which is not installed"
    except Exception as error:
        state, reason = "refused" if may_refuse else "failed", line_of(error)
    return Attempt(case, state, reason, time.perf_counter() - started, losses)


def line_of(error: Exception) -> str:
    """The error's name and its first words."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(error))
    words = " ".join(printable.split())
    return f"{type(error).__name__}: {words[:160]}" if words else type(error).__name__
