"""Watches the ranks of a run: who is frozen, who does not stop when asked, who was killed."""

import logging
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.flight import make_pipe, write_flight_records
from launch.places import RankPlaces
from launch.standing import Standing, cpu_seconds, culprit, process_state, stand, told
from trainer.errors import RankFailed, StopRequested
from trainer.recipe.checkpoint import RecoverySection
from trainer.recovery.flight import PIPE
from trainer.recovery.goodput import BEGAN
from trainer.recovery.heartbeat import (
    HEARTBEAT_FILE,
    Beat,
    make_heartbeat_file,
    read_heartbeat,
)
from trainer.recovery.lock import LAUNCHER
from trainer.recovery.patience import Patience
from trainer.recovery.stacks import STACK_FILE
from trainer.recovery.status_file import RESTARTS

_log = logging.getLogger(__name__)

STOP_SECONDS = 12.0
"""How long ranks that were asked to stop may show no progress."""
HASTE_SECONDS = 3.0
"""How long they may take after a second CTRL-C."""
SAVE_SECONDS = 60.0
"""How long a rank that is asked to stop may wait for the disk under a save."""
_GOES_ON = "the same command goes on from what was saved"


class RunOverseer:
    """The Overseer of one start of a run's ranks.

    `folder`: of the files that it shares with them; `logs`: where the stacks of a frozen run go;
    `restarts`: how many starts came before; `began`: when the first one did, monotonic; `places`:
    which place each rank has.
    """

    def __init__(
        self,
        recovery: RecoverySection,
        folder: Path,
        logs: Path,
        restarts: int,
        began: float | None = None,
        places: RankPlaces | None = None,
    ) -> None:
        self._places = places
        self._folder, self._logs, self.restarts = folder, logs, restarts
        self._patience = Patience(recovery, time.monotonic())
        self._began = time.monotonic() if restarts or began is None else began
        self._beats: dict[int, Beat] = {}
        self._asked: float | None = None
        self._hasty: float | None = None
        self._out_of_memory = _killed_for_memory()

    def environment(self, rank: int) -> dict[str, str]:
        """Where a rank's heartbeat and stack go, and who holds the run's lock."""
        path = self._folder / f"heartbeat-{rank}"
        make_heartbeat_file(path)
        make_pipe(self._pipe(rank))
        return {
            PIPE: str(self._pipe(rank)),
            HEARTBEAT_FILE: str(path),
            STACK_FILE: str(self._stack(rank)),
            LAUNCHER: str(os.getpid()),
            BEGAN: str(self._began),
            RESTARTS: str(self.restarts),
            **(self._places.environment(rank) if self._places else {}),
        }

    def _stack(self, rank: int) -> Path:
        return self._folder / f"stack-{rank}"

    def _pipe(self, rank: int) -> Path:
        return self._folder / f"flight-{rank}"

    def look(self, running: Mapping[int, int], signals: Sequence[int]) -> None:
        """Raise RankFailed where a rank is frozen, StopRequested where ranks do not stop in time,
        KeyboardInterrupt where they do not after a second CTRL-C.
        """
        now = time.monotonic()
        paths = {rank: self._folder / f"heartbeat-{rank}" for rank in running}
        self._beats = {rank: read_heartbeat(path) for rank, path in paths.items()}
        used = sum(map(cpu_seconds, running.values()))
        self._patience.observe(self._beats, used, now)
        self._check_stop(running, signals, now)
        waited = now - self._patience.last_progress
        stopped = any(process_state(pid) == "T" for pid in running.values())
        if waited > self._patience.allowed(used, now, stopped):
            self._name_frozen(running, waited)

    def _name_frozen(self, running: Mapping[int, int], waited: float) -> None:
        standings = stand(running, self._beats, {rank: self._stack(rank) for rank in running})
        guilty = culprit(standings)
        written = self._write_stacks(standings, guilty)
        records = self._logs / f"frozen-step-{guilty.beat.step:08d}-collectives.json"
        written += write_flight_records({rank: self._pipe(rank) for rank in running}, records)
        for one in standings:
            doing = f"in {one.collective}, " if one.collective else ""
            state = f" ({one.state})" if one.state else ""
            _log.warning("rank %d: %s%s%s", one.rank, doing, one.line, state)
        state = f", {one.state}" if (one := guilty).state else ""
        error = RankFailed(
            f"rank {guilty.rank} (process {guilty.pid} on {socket.gethostname()}) is frozen "
            f"{guilty.beat.where}: no progress for {waited:.0f} s{state}; "
            f"{told(standings, guilty)}; it stands at {guilty.line}{written}; {_GOES_ON}"
        )
        error.rank = guilty.rank
        raise error

    def _write_stacks(self, standings: list[Standing], guilty: Standing) -> str:
        """Write every rank's stack beside the logs; words that say where, "" on a full disk."""
        path = self._logs / f"frozen-step-{guilty.beat.step:08d}.txt"
        parts = [
            f"rank {one.rank}, process {one.pid}, {one.beat.where}"
            f"{f', {one.state}' if one.state else ''}\n{one.stack}"
            for one in standings
        ]
        try:
            path.write_text("\n".join(parts), encoding="utf-8")
        except OSError as error:
            _log.warning("%s cannot be written: %s", path, error.strerror)
            return ""
        return f"; every rank's stack is in {path}"

    def _check_stop(self, running: Mapping[int, int], signals: Sequence[int], now: float) -> None:
        if not signals:
            return
        self._asked = self._asked or now
        if list(signals).count(signal.SIGINT) > 1:
            self._hasty = self._hasty or now
            if now - self._hasty > HASTE_SECONDS:
                raise KeyboardInterrupt
        allowed = max(STOP_SECONDS, 3 * self._patience.median)
        if any(self._waits_for_disk(rank, pid) for rank, pid in running.items()):
            allowed = max(allowed, SAVE_SECONDS)
        if now - max(self._asked, self._patience.last_progress) > allowed:
            name = signal.Signals(signals[0]).name
            guilty = culprit(
                stand(running, self._beats, {rank: self._stack(rank) for rank in running})
            )
            error = StopRequested(
                f"{name}: the ranks made no progress for {allowed:.0f} s and were ended unsaved: "
                f"rank {guilty.rank} (process {guilty.pid} on {socket.gethostname()}) stands "
                f"{guilty.beat.where} at {guilty.line}; {_GOES_ON}"
            )
            error.signal, error.rank = name, guilty.rank
            raise error

    def stepped(self, rank: int | None) -> bool:
        """Whether a rank has made a step in this start; True of no rank."""
        return rank is None or read_heartbeat(self._folder / f"heartbeat-{rank}").stepped

    def _waits_for_disk(self, rank: int, pid: int) -> bool:
        return self._beats[rank].phase == "save" and process_state(pid) == "D"

    def ended(self, rank: int, pid: int, exit_code: int) -> RankFailed:
        """The line for a rank that was killed, or ended without a word."""
        beat = read_heartbeat(self._folder / f"heartbeat-{rank}")
        who = f"rank {rank} (process {pid} on {socket.gethostname()})"
        if exit_code >= 0:
            error = RankFailed(
                f"{who} ended {beat.where} with exit code {exit_code} and without a word; look at "
                f"its log; {_GOES_ON}"
            )
        else:
            name = signal.Signals(-exit_code).name
            cause = "killed by someone" if name == "SIGKILL" else "a fault outside of Python"
            if name == "SIGKILL" and _killed_for_memory() > self._out_of_memory:
                cause = (
                    "out of memory: the kernel's killer ended a process since the start; lower "
                    "batch.micro or data.workers, or take fewer ranks a machine"
                )
            error = RankFailed(f"{who} was ended by {name} {beat.where}: {cause}; {_GOES_ON}")
            error.signal = name
        error.rank = rank
        return error


def _killed_for_memory() -> int:
    """How many processes the kernel has ended for want of memory, on this machine or container."""
    counted = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        counted += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return counted
