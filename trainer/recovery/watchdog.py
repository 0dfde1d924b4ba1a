"""The watch of ranks that nobody of ours started, as under torchrun: each looks at all.

Every rank's thread publishes its beat in the job's store, and judges when its own rank has made no
progress for too long: the rank that is frozen is the one whose thread is silent too, or that is
least far. All that can say so end, and torchrun ends the rest.
"""

import faulthandler
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.errors import RankFailed
from trainer.recipe.checkpoint import RecoverySection
from trainer.recovery.heartbeat import Beat, Heartbeat
from trainer.recovery.lock import LAUNCHER
from trainer.recovery.patience import Patience
from trainer.recovery.stacks import collective_of, frames_of_main_thread, line_of
from trainer.recovery.status_file import carried_on, recorded_step, status_of, write_status

_log = logging.getLogger(__name__)

_KEY = "lyceum/beat/{rank}"


class Store(Protocol):
    """What is needed of torch.distributed's store."""

    def set(self, key: str, value: str) -> None:
        """Publish."""

    def get(self, key: str) -> bytes:
        """Read; waits for the key."""

    def check(self, keys: list[str]) -> bool:
        """Whether all keys are there."""


@dataclass(frozen=True)
class Published:
    """What a rank's thread said of it last; `ticks` grows as long as the process lives."""

    rank: int
    ticks: int
    pid: int
    host: str
    beat: Beat
    collective: str | None
    line: str

    @property
    def who(self) -> str:
        """For a sentence."""
        return f"rank {self.rank} (process {self.pid} on {self.host})"


class Watchdog:
    """A context in which a thread watches this rank; nothing where a launcher of ours does.

    `folder`: the run directory; `end`: what ends this process, with the exit code.
    """

    def __init__(
        self,
        store: Store,
        heartbeat: Heartbeat,
        recovery: RecoverySection,
        folder: Path,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self._store, self._heartbeat, self._folder, self._end = store, heartbeat, folder, end
        self._rank = int(os.environ.get("RANK", "0"))
        self._world = int(os.environ.get("WORLD_SIZE", "1"))
        self._patience = Patience(recovery, time.monotonic())
        self._every = max(0.05, min(5.0, recovery.patience_seconds / 8))
        self._over = threading.Event()
        self._ticks = 0
        self._asked: float | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watchdog":
        if LAUNCHER not in os.environ and self._world > 1:
            self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._over.wait(self._every):
                self._publish()
                now = time.monotonic()
                beat = self._heartbeat.now()
                self._patience.observe({self._rank: beat}, time.process_time(), now)
                self._look(now)
        except RuntimeError as error:  # the store went with the rank that held it
            if not self._over.is_set():
                _log.warning("the job's store is gone: %s", str(error).splitlines()[0])
                self._watch_alone()

    def _watch_alone(self) -> None:
        """End this process where the rank that held the store is gone and no collective says so, as
        where its node lost its power.
        """
        while not self._over.wait(self._every):
            now = time.monotonic()
            self._patience.observe({self._rank: self._heartbeat.now()}, time.process_time(), now)
            waited = now - self._patience.last_progress
            if waited > self._patience.allowed(time.process_time(), now, stopped=True):
                _log.error("no progress for %.0f s behind the loss of the job's store", waited)
                self._end(RankFailed.exit_code)

    def _publish(self) -> None:
        self._ticks += 1
        frames, beat = frames_of_main_thread(), self._heartbeat.now()
        content = {
            "ticks": self._ticks,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "beat": [beat.count, beat.step, beat.phase],
            "collective": collective_of(frames),
            "line": line_of(frames),
        }
        self._store.set(_KEY.format(rank=self._rank), json.dumps(content))

    def _read(self) -> dict[int, Published]:
        found = {}
        for rank in range(self._world):
            key = _KEY.format(rank=rank)
            if self._store.check([key]):
                content = json.loads(self._store.get(key))
                content["beat"] = Beat(*content["beat"])
                found[rank] = Published(rank=rank, **content)
        return found

    def _look(self, now: float) -> None:
        """Judge where there was no progress for longer than may be, with less patience where the
        process of a rank is silent.
        """
        waited, used = now - self._patience.last_progress, time.process_time()
        least = self._patience.allowed(used, now, stopped=True)
        if waited < least:
            self._asked = None
        if waited > least and (self._asked is None or now - self._asked > least):
            self._asked = now
            known, silent = self._listen()
            if known and (silent or waited > self._patience.allowed(used, now)):
                self._judge(waited, known, silent)
        elif waited > self._patience.allowed(used, now):
            self._judge(waited, *self._listen())

    def _listen(self) -> tuple[dict[int, Published], list[int]]:
        """What all ranks say, and those whose threads say nothing new; {} where it is over."""
        first = self._read()
        for _ in range(3):
            if self._over.wait(self._every):
                return {}, []
            self._publish()
        known = self._read()
        return known, [rank for rank, one in first.items() if known[rank].ticks == one.ticks]

    def _judge(self, waited: float, known: dict[int, Published], silent: list[int]) -> None:
        """Name the frozen rank, and end this process."""
        if not known:
            return
        guilty = judged(known, silent)
        line = frozen_line(known, guilty, waited, guilty.rank in silent)
        _log.error("%s%s", line, self._write_stack(guilty.beat.step))
        if guilty.rank in silent and guilty.host == socket.gethostname():
            os.kill(guilty.pid, signal.SIGKILL)  # torchrun would wait half a minute for it
        able = [rank for rank in known if rank not in silent]
        if self._rank == min([rank for rank in able if rank != guilty.rank] or able):
            self._tell(line, guilty)
        self._end(RankFailed.exit_code)

    def _write_stack(self, step: int) -> str:
        path = self._folder / "logs" / f"frozen-step-{step:08d}-rank-{self._rank}.txt"
        try:
            with path.open("w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:
            _log.warning("%s cannot be written: %s", path, error.strerror)
            return ""
        return f" (this rank's stack is in {path})"

    def _tell(self, line: str, guilty: Published) -> None:
        print(f"lyceum: error: {line}", file=sys.stderr, flush=True)
        status = status_of(
            "failed",
            recorded_step(self._folder),
            exit_code=RankFailed.exit_code,
            reason=line,
            error=RankFailed.__name__,
            rank=guilty.rank,
            **carried_on(self._folder),
        )
        write_status(self._folder, status)


def judged(known: Mapping[int, Published], silent: list[int]) -> Published:
    """The rank that the others wait for: one whose process is silent, or that waits in nothing, or
    that is least far.
    """
    outside = [rank for rank, one in known.items() if one.collective is None]
    candidates = silent or outside or list(known)
    chosen = min(candidates, key=lambda rank: (known[rank].beat.step, known[rank].beat.count, rank))
    return known[chosen]


def frozen_line(
    known: Mapping[int, Published], guilty: Published, waited: float, silent: bool
) -> str:
    """The one line for a frozen rank."""
    waiting = [one for one in known.values() if one.collective and one.rank != guilty.rank]
    told = "no other rank waits in a collective"
    if waiting:
        ranks = ", ".join(str(one.rank) for one in waiting)
        several = len(waiting) > 1
        told = (
            f"rank{'s' * several} {ranks} {'wait' if several else 'waits'} for it in "
            f"{waiting[0].collective}, {waiting[0].line}"
        )
    state = ", its process is stopped or gone" if silent else ""
    return (
        f"{guilty.who} is frozen {guilty.beat.where}: no progress for {waited:.0f} s{state}; "
        f"{told}; it stood at {guilty.line}; the same command goes on from what was saved"
    )
