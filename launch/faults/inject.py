"""Faults inside a rank: exceptions, spoilt numbers, full disks; put in before ranks are forked."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trainer.checkpoint.files
from trainer.finished_steps import FinishedSteps
from trainer.model.transformer import LanguageModel
from trainer.run import Run
from trainer.saving import Saving

INSIDE = (
    *("forward", "backward", "update", "evaluation", "generation", "save", "out of memory", "nan"),
    *("disk full in a save", "disk full outside", "clock", "spike"),
)
"""What `injected` can do to one rank."""
SKIP = "skip"
"""What it can do to all: no gradient of the step is finite, so that every rank skips it."""


class Injected(RuntimeError):
    """The fault that a round puts in."""


@dataclass(frozen=True)
class InsideFault:
    """A fault on one rank in one step, once: `marker`-RANK is made when it happens."""

    kind: str
    rank: int
    step: int
    marker: Path

    def strikes(self, step: int) -> bool:
        """Whether it happens here and now; if so it is over."""
        rank = int(os.environ.get("RANK", "0"))
        if (self.kind != SKIP and rank != self.rank) or step < self.step:
            return False
        marker = self.marker.with_name(f"{self.marker.name}-{rank}")
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


@contextmanager
def injected(fault: InsideFault) -> Iterator[None]:
    """Inside the block ranks that are forked meet the fault."""
    with ExitStack() as patches:

        def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
            inner = getattr(owner, name)

            def outer(*arguments: Any, **named: Any) -> Any:
                return around(inner, *arguments, **named)

            patches.enter_context(patch.object(owner, name, outer))

        _FAULTS[fault.kind](fault, wrap)
        yield


_Wrap = Callable[[Any, str, Callable[..., Any]], None]


def _forward(fault: InsideFault, wrap: _Wrap) -> None:
    armed: list[bool] = []

    def step(inner: Any, run: Run, *rest: Any) -> Any:
        if fault.strikes(run.step + 1):
            armed.append(True)
        return inner(run, *rest)

    def forward(inner: Any, *rest: Any, **named: Any) -> Any:
        if armed:
            raise Injected("in a forward pass")
        return inner(*rest, **named)

    wrap(Run, "forward_backward", step)
    wrap(LanguageModel, "forward", forward)


def _in_backward(fault: InsideFault, wrap: _Wrap, act: Callable[[Any], Any]) -> None:
    def step(inner: Any, run: Run, *rest: Any) -> Any:
        if not fault.strikes(run.step + 1):
            return inner(run, *rest)
        weights = [p for chunk in run.chunks for p in chunk.parameters() if p.requires_grad]
        hooked = weights if fault.kind == SKIP else weights[:1]
        hooks = [weight.register_hook(act) for weight in hooked]
        try:
            return inner(run, *rest)
        finally:
            for hook in hooks:
                hook.remove()

    wrap(Run, "forward_backward", step)


def _backward(fault: InsideFault, wrap: _Wrap) -> None:
    def raise_it(_gradient: Any) -> Any:
        raise Injected("in a backward pass")

    _in_backward(fault, wrap, raise_it)


def _nan(fault: InsideFault, wrap: _Wrap) -> None:
    _in_backward(fault, wrap, lambda gradient: gradient * float("nan"))


def _spike(fault: InsideFault, wrap: _Wrap) -> None:
    """A gradient that is finite, and out of all proportion: also where it is one small weight's, as
    of a norm in the last stage.
    """
    _in_backward(fault, wrap, lambda gradient: gradient * 1e12)


def _raising(
    method: str, error: Callable[[], Exception], behind: bool = False, owner: Any = Run
) -> Any:
    def put_in(fault: InsideFault, wrap: _Wrap) -> None:
        def step(inner: Any, run: Any, *rest: Any, **named: Any) -> Any:
            if fault.strikes(run.step + (0 if behind else 1)):
                raise error()
            return inner(run, *rest, **named)

        wrap(owner, method, step)

    return put_in


def _full(fault: InsideFault, wrap: _Wrap, owner: Any, method: str) -> None:
    """Every write of a kind finds the disk full from the fault's step to its end, once."""
    began: list[bool] = []

    def save(inner: Any, saving: Saving, *rest: Any, **named: Any) -> Any:
        began[:] = [True] if fault.strikes(saving.step) else []
        return inner(saving, *rest, **named)

    def write(inner: Any, *rest: Any) -> Any:
        if began:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return inner(*rest)

    wrap(Saving, "save", save)
    wrap(owner, method, write)


def _disk_full_in_save(fault: InsideFault, wrap: _Wrap) -> None:
    _full(fault, wrap, trainer.checkpoint.files.FileWriter, "write")


def _disk_full_outside(fault: InsideFault, wrap: _Wrap) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def log(inner: Any, finished: FinishedSteps, *rest: Any, **named: Any) -> Any:
        if fault.strikes(finished.step):
            with patch.object(os, "write", side_effect=full):
                return inner(finished, *rest, **named)
        return inner(finished, *rest, **named)

    wrap(FinishedSteps, "read", log)


def _clock(fault: InsideFault, wrap: _Wrap) -> None:
    """The wall clock jumps back by a day on one rank, and stays there."""
    behind: list[float] = []

    def step(inner: Any, run: Run, *rest: Any) -> Any:
        if fault.strikes(run.step + 1):
            behind.append(86_400.0)
        return inner(run, *rest)

    wrap(Run, "forward_backward", step)
    wrap(time, "time", lambda inner: inner() - sum(behind))


def _no_memory() -> Exception:
    import torch

    return torch.OutOfMemoryError("tried to allocate more than there is")


_FAULTS: dict[str, Callable[[InsideFault, _Wrap], None]] = {
    "forward": _forward,
    "backward": _backward,
    "update": _raising("update", lambda: Injected("in the optimizer's step")),
    "evaluation": _raising("validate", lambda: Injected("in an evaluation"), behind=True),
    "generation": _raising("sample", lambda: Injected("in a generation"), behind=True),
    "save": _raising("save", lambda: Injected("in a save"), behind=True, owner=Saving),
    "out of memory": _raising("forward_backward", _no_memory),
    "nan": _nan,
    SKIP: _nan,
    "spike": _spike,
    "disk full in a save": _disk_full_in_save,
    "disk full outside": _disk_full_outside,
    "clock": _clock,
}
