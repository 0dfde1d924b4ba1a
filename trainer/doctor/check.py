"""One check of a machine: how it ended, in a line, so that the others go on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kernels.bench.errors import line_of

CheckState = Literal["ok", "failed", "refused", "not run"]
"""`refused`: what a back end or library may say no to, and did; it fails nothing."""


@dataclass(frozen=True)
class Check:
    """One result of `lyceum doctor --self-test`."""

    name: str
    state: CheckState
    reason: str
    """One line; what was found, where all is well."""
    seconds: float = 0.0
    losses: tuple[float, ...] = ()


class NotRunError(Exception):
    """The check needs what this machine lacks."""


def check(
    name: str, action: Callable[[], str | tuple[str, tuple[float, ...]]], may_refuse: bool = False
) -> Check:
    """Run `action`, which returns what it found and any losses; an exception becomes the reason."""
    started = time.perf_counter()
    losses: tuple[float, ...] = ()
    state: CheckState = "ok"
    try:
        found = action()
        reason, losses = (found, ()) if isinstance(found, str) else found
    except NotRunError as missing:
        state, reason = "not run", str(missing)
    except ModuleNotFoundError as missing:
        state, reason = "not run", f"needs {missing.name}, which is not installed"
    except Exception as error:
        state, reason = "refused" if may_refuse else "failed", line_of(error, 160)
    return Check(name, state, reason, time.perf_counter() - started, losses)
