"""One round: a run, a fault in it, its ends, and what is left at last."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.faults.inject import INSIDE, SKIP, InsideFault, injected
from launch.faults.launcher import (
    HANGS_SECONDS,
    children_of,
    fork_launcher,
    has_ended,
    run_to_end,
    wait_for,
    wait_until_gone,
)
from launch.faults.layouts import EVERY, STEPS, RunLayout, recipe_of
from launch.ranks import INTERRUPTED
from trainer.checkpoint import latest_checkpoint
from trainer.checkpoint.format import read_manifest
from trainer.recovery.status_file import read_status, recorded_step

OUTSIDE = (
    *("kill a rank", "kill a worker", "kill the launcher", "freeze a rank", "stop", "two CTRL-C"),
    *("damage", "remove the directory", "rename the directory", "remove the lock"),
)
"""What is done to a run from outside."""
FAULTS = (*OUTSIDE, *INSIDE)
TAKEN_AWAY = ("remove the directory", "rename the directory", "remove the lock")
PATIENCE_SECONDS = 4.0
_SPIKES = {"spike": 1e4, "spike_window": 3}
_FAILED, _STOPPED = 4, 75


@dataclass
class RoundResult:
    """What a round was, and every fault that was found in how it went; none: it passed."""

    number: int
    layout: str
    fault: str
    step: int
    rank: int
    restarts: int
    ends: list[str] = field(default_factory=list)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The round on one line."""
        said = "passed" if not self.faults else "FAILED: " + "; ".join(self.faults)
        return (
            f"round {self.number}: {self.layout}, {self.fault} (rank {self.rank}, step {self.step},"
            f" restarts {self.restarts}): {' -> '.join(self.ends)}, {self.seconds:.1f} s, {said}"
        )


class Round:
    """Plays one fault on one layout; `folder`: its own, `undisturbed`: the hashes to come to."""

    def __init__(
        self,
        number: int,
        layout: RunLayout,
        fault: str,
        dice: random.Random,
        folder: Path,
        sources: Path,
        undisturbed: dict[str, str],
    ) -> None:
        self._layout, self._fault, self._dice = layout, fault, dice
        self._folder, self._sources, self._undisturbed = folder, sources, undisturbed
        self._run = folder / "run"
        rank, step = dice.randrange(layout.ranks), dice.randrange(EVERY + 1, STEPS - 1)
        if fault == "disk full outside":
            rank = 0  # which alone writes metrics
        if fault == "spike":
            step = max(step, EVERY + 2)  # behind a checkpoint that has settled
        restarts = dice.randrange(2) if fault not in (*TAKEN_AWAY, "damage") else 0
        self.result = RoundResult(number, layout.name, fault, step, rank, restarts)

    def play(self) -> RoundResult:
        """The round's result."""
        began = time.monotonic()
        self._folder.mkdir(parents=True)
        inside = InsideFault(
            self._fault, self.result.rank, self.result.step, self._folder / "struck"
        )
        act = None if self._fault in INSIDE else self._act
        self._start(injected(inside) if self._fault in INSIDE else nullcontext(), act)
        if self._fault == "damage":
            self._damage()
        self._go_on()
        self.result.seconds = time.monotonic() - began
        return self.result

    def _go_on(self) -> None:
        """Start the run again until it is done, and look at what it left."""
        if self._fault in TAKEN_AWAY:
            self._check_taken_away()
            return
        starts = 0
        while (read_status(self._run) or {}).get("state") != "done" or self._fault == "damage":
            starts += 1
            if starts > 3:
                self._blame("three more starts did not end it")
                return
            self._start(nullcontext(), None)
            if self._fault == "damage":
                break
        self._check_weights()

    def _start(self, around: Any, act: Callable[[int], None] | None) -> None:
        """Start the run in a process of its own, act on it, wait for its end, and look at that."""
        # The fault is the round's; what goes on from it must not meet a second freeze of patience.
        recovery = {"restarts": self.result.restarts, "patience_seconds": PATIENCE_SECONDS}
        recovery |= _SPIKES if self._fault == "spike" else {}
        recipe = recipe_of(self._layout, self._run, self._sources, recovery)
        with around:
            launcher = fork_launcher(recipe, self._layout.ranks, self._folder / "screen.txt")
        ranks: list[int] = []
        if act is not None and self._reaches(launcher, self.result.step - 1):
            ranks = children_of(launcher)
            act(launcher)
        code = wait_for(launcher)
        if code is None:
            self.result.ends.append("hang")
            self._blame(f"no end in {HANGS_SECONDS:.0f} s")
            return
        self.result.ends.append(str(code))
        wait_until_gone(ranks)
        self._check_end(code, acted=act is not None)

    def _reaches(self, launcher: int, step: int) -> bool:
        """Wait until the run has recorded a step, and a little more; False: it ended before."""
        while recorded_step(self._run) < step:
            if has_ended(launcher):
                return False
            time.sleep(0.005)
        time.sleep(self._dice.random() * 0.05)
        return True

    def _act(self, launcher: int) -> None:
        """Do to the run what this round's fault is."""
        ranks = children_of(launcher)
        rank = ranks[self.result.rank] if len(ranks) == self._layout.ranks else launcher
        moved = self._folder / "moved"
        match self._fault:
            case "kill a rank":
                _signal(rank, signal.SIGKILL)
            case "kill a worker":
                workers = children_of(rank)
                _signal(self._dice.choice(workers) if workers else rank, signal.SIGKILL)
            case "kill the launcher":
                _signal(launcher, signal.SIGKILL)
            case "freeze a rank":
                _signal(rank, signal.SIGSTOP)
            case "stop":
                wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
                _signal(launcher, self._dice.choice(wanted))
            case "two CTRL-C":
                _signal(launcher, signal.SIGINT)
                time.sleep(0.1)
                _signal(launcher, signal.SIGINT)
            case "remove the directory":
                shutil.rmtree(self._run, ignore_errors=True)
            case "rename the directory":
                self._run.rename(moved)
            case "remove the lock":
                (self._run / ".lock").unlink()

    def _damage(self) -> None:
        """Alter a byte of the newest checkpoint, and cut the run's record of its end."""
        newest = latest_checkpoint(self._run)
        if newest is None:
            self._blame("no checkpoint to damage")
            return
        files = sorted(path for path in newest.rglob("*") if path.is_file())
        chosen = self._dice.choice(files)
        content = bytearray(chosen.read_bytes())
        content[self._dice.randrange(len(content))] ^= 1 << self._dice.randrange(8)
        chosen.write_bytes(content)

    def _check_end(self, code: int, acted: bool) -> None:
        """Hold an end against status.json, and the first against what the fault must lead to."""
        status = read_status(self._run) or {}
        first = len(self.result.ends) == 1
        if self._fault in TAKEN_AWAY and first:
            if code != _FAILED:
                self._blame(f"exit code {code}, not {_FAILED}")
            return
        if code == -signal.SIGKILL:
            if status.get("state") != "running":
                self._blame(f"status.json says {status.get('state')} of a killed launcher's run")
            return
        if status.get("exit_code") != code:
            self._blame(f"exit code {code}, and status.json says {status.get('exit_code')}")
        known = {0: "done", _FAILED: "failed", _STOPPED: "stopped", INTERRUPTED: "stopped"}
        if status.get("state") != known.get(code):
            self._blame(f"exit code {code}, and status.json says {status.get('state')}")
        if code == _FAILED and not status.get("reason"):
            self._blame("no reason")
        struck = acted or any(self._folder.glob("struck-*"))
        named = self._fault in (*_NAMED, "kill a worker") and code == _FAILED and struck
        if first and named and status.get("rank") != self.result.rank:
            self._blame(f"rank {status.get('rank')} is blamed: {status.get('reason')}")
        if code not in known:
            self._blame(f"exit code {code}: {_tail(self._folder / 'screen.txt')}")
        if not first and code != 0:
            self._blame(f"going on ended with {code}: {status.get('reason')}")

    def _check_taken_away(self) -> None:
        status = read_status(self._run)
        if status is not None and status.get("state") == "done":
            self._blame("status.json says done")

    def _check_weights(self) -> None:
        """Hold the last checkpoint's files against the undisturbed run's, bit by bit."""
        takes_data = self._fault in ("nan", "spike")
        wanted = self._of_told() if takes_data else self._undisturbed
        if hashes(self._run) != wanted:
            what = "a run told to skip the same" if takes_data else "the undisturbed run"
            self._blame(f"the weights differ from those of {what}")

    def _of_told(self) -> dict[str, str]:
        """The hashes of a run all of whose ranks were told to skip the step, or its window."""
        told, step = self._folder / "told", self.result.step
        skip = InsideFault(SKIP, 0, step, self._folder / "told-struck")
        good = (step - 2) // EVERY * EVERY  # the checkpoint that a step behind it had settled
        spiked = self._fault == "spike"
        leave_out = {"leave_out": [{"before": good + 1, "batches": step - good}]} if spiked else {}
        with nullcontext() if spiked else injected(skip):
            recipe = recipe_of(self._layout, told, self._sources, leave_out)
            run_to_end(recipe, self._layout.ranks, self._folder / "told.txt")
        return hashes(told)

    def _blame(self, fault: str) -> None:
        self.result.faults.append(fault)


_NAMED = (
    *("kill a rank", "freeze a rank", "forward", "backward", "update", "generation"),
    "out of memory",
)
"""Faults of one rank that its run's end must name."""


def hashes(run: Path) -> dict[str, str]:
    """sha256 of each tensor file of a run's newest checkpoint, by name."""
    newest = latest_checkpoint(run)
    if newest is None:
        return {}
    files = read_manifest(newest).files
    found = {name: file.sha256 for name, file in files.items() if name.endswith(".safetensors")}
    return found | {"step": newest.name}


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _tail(path: Path) -> str:
    try:
        return " | ".join(path.read_text(errors="replace").splitlines()[-3:])
    except OSError:
        return ""


@contextmanager
def told(path: Path) -> Iterator[Callable[[RoundResult], None]]:
    """A function that prints each result, and writes it as a line of JSON."""
    with path.open("a", encoding="utf-8") as file:

        def tell(result: RoundResult) -> None:
            print(result.line, flush=True)
            file.write(json.dumps(vars(result)) + "\n")
            file.flush()

        yield tell
