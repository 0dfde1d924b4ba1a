"""Saves that go on beside training: one at a time, written by a thread of every rank together.

The loop stalls while the state is copied to host memory. What follows, the files, their sha256 and
the agreement of all ranks, is the thread's, over a process group of its own. A save that fails is
tried again, and then given up with a word: training goes on without it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from trainer.checkpoint.format import Piece
from trainer.checkpoint.host_copy import HostCopy
from trainer.checkpoint.write import StagedCheckpoint, save_checkpoint, stage_checkpoint
from trainer.errors import (
    CheckpointError,
    LocalDiskError,
    LyceumError,
    NotFiniteError,
    TrainingError,
)
from trainer.parallel.agreement import Ranks
from trainer.parallel.finite import all_finite

_log = logging.getLogger(__name__)

RETRIES_SECONDS = (1.0, 5.0)
"""How long a save that failed waits before it is tried again."""
_LOOK_SECONDS = 1.0
_ABANDON_SECONDS = 8.0


@dataclass(frozen=True)
class Snapshot:
    """What a save writes: the state after a step, in host memory, as `save_checkpoint` takes it.

    `local`: where on this machine's own disk it is written first, None: nowhere.
    """

    folder: Path
    step: int
    pieces: list[Piece]
    model: Mapping[str, Any]
    counters: Mapping[str, Any]
    attachments: Mapping[str, bytes]
    local: Path | None = None


@dataclass(frozen=True)
class FinishedSave:
    """A save that is over: `stall_seconds` of training, `seconds` from its begin to its end, and
    the bytes that this rank wrote; `error`: why there is no checkpoint, None where there is one.
    """

    step: int
    path: Path
    stall_seconds: float
    seconds: float
    nbytes: int
    error: Exception | None = None

    @property
    def write_seconds(self) -> float:
        """What it took beside training."""
        return self.seconds - self.stall_seconds


class Abandoned(Exception):
    """Ends the thread where the run ends before it has written all."""


class BackgroundSaver:
    """Writes one save at a time; `alive` is called now and then while somebody waits for it.

    To be made on all ranks together. Every rank learns the same end of a save, but not at the same
    moment: `poll` is for what concerns this rank alone, `wait` for what all do alike. `local`: the
    run's folder on this machine's own disk, None: it has none.
    """

    def __init__(
        self, device: torch.device, alive: Callable[[], None], local: Path | None = None
    ) -> None:
        self.local = local
        together = dist.is_initialized() and dist.get_world_size() > 1
        self._group = dist.new_group(backend="gloo") if together else None
        self._ranks = Ranks(self._group)
        self._alive = alive
        self._copies = [HostCopy(device), HostCopy(device)]
        self._thread: threading.Thread | None = None
        self._finished: FinishedSave | None = None
        self._written = 0
        self._abandoned = threading.Event()
        self._told = True
        self._preparing: threading.Thread | None = None

    def prepare(self, nbytes: int) -> None:
        """Make the host memory of the training state, in a thread: the first save does not wait
        for it then.
        """
        target = self._copies[1].prepare
        self._preparing = threading.Thread(target=target, args=(nbytes,), daemon=True)
        self._preparing.start()

    def snapshot(self, part: int, pieces: Iterable[Piece]) -> list[Piece]:
        """The values of the pieces as they are now, in host memory; collective where those are.

        `part`: 0 or 1, which of the two memories.
        """
        assert self._thread is None, "the memory is being read"
        if self._preparing is not None:
            self._preparing.join()
            self._preparing = None
        return self._copies[part].take(pieces)

    @property
    def busy(self) -> bool:
        """Whether a save was begun for which nobody has waited."""
        return self._thread is not None

    def start(self, snapshots: list[Snapshot], began: float) -> float:
        """Write them one after another, the last is the run's own checkpoint; `began`: when the
        save did, by time.perf_counter(). Returns the seconds since, for which training stalled.
        """
        assert self._thread is None, "one save at a time"
        stall = time.perf_counter() - began
        self._finished, self._told = None, False
        self._thread = threading.Thread(
            target=self._run, args=(snapshots, began, stall), daemon=True, name="saver"
        )
        self._thread.start()
        return stall

    def poll(self) -> FinishedSave | None:
        """A save that is over, told once; without waiting."""
        if self._told or self._finished is None:
            return None
        self._told = True
        return self._finished

    @property
    def spoilt(self) -> bool:
        """Whether the last save found values that are not finite."""
        return self._finished is not None and isinstance(self._finished.error, NotFiniteError)

    def wait(self) -> FinishedSave:
        """The save that was begun, when it is over; the same on all ranks.

        Raises what is no fault of a save, such as a rank that is gone.
        """
        thread, seen = self._thread, -1
        assert thread is not None, "one was begun"
        while thread.is_alive():
            if self._written != seen:
                seen = self._written
                self._alive()
            thread.join(_LOOK_SECONDS)
        self._thread = None
        finished = self._finished
        assert finished is not None, "the thread leaves its word"
        if finished.error is not None and not isinstance(finished.error, LyceumError):
            raise finished.error
        return finished

    def abandon(self) -> None:
        """Leave what is being written a few seconds, as the run ends, and then no more.

        What is half written then is removed, or left for the next save to remove.
        """
        if self._thread is not None:
            self._thread.join(_ABANDON_SECONDS)
        self._abandoned.set()

    def _run(self, snapshots: list[Snapshot], began: float, stall: float) -> None:
        error: Exception | None = None
        path = snapshots[-1].folder
        try:
            self._require_finite(snapshots)
            for snapshot, staged in zip(snapshots, self._staged(snapshots), strict=True):
                path = self._with_retries(snapshot, staged)
        except Exception as fault:  # told by `poll` and `wait`, on the thread that trains
            error = fault
        nbytes = sum(piece.tensor.nbytes for one in snapshots for piece in one.pieces)
        seconds = time.perf_counter() - began
        self._finished = FinishedSave(snapshots[-1].step, path, stall, seconds, nbytes, error)

    def _require_finite(self, snapshots: list[Snapshot]) -> None:
        tensors = (piece.tensor for one in snapshots for piece in one.pieces)
        bad = None if all_finite(tensors) else True
        if self._ranks.first_failure(bad) is not None:
            raise NotFiniteError(
                f"the weights or the optimizer's state are not finite after step "
                f"{snapshots[-1].step}, and are not saved: lower optimizer.lr or look at the data, "
                "then resume from the last good checkpoint"
            )

    def _staged(self, snapshots: list[Snapshot]) -> list[StagedCheckpoint | None]:
        """All of them on the machines' own disks, before one goes to the run directory; None each
        where there are none, or no room.
        """
        staged: list[StagedCheckpoint | None] = []
        for one in snapshots:
            if one.local is None:
                return [None] * len(snapshots)
            try:
                staged.append(stage_checkpoint(one.local, one.step, **self._content_of(one)))
            except LocalDiskError as error:
                for whole in filter(None, staged):
                    whole.remove()
                if self._ranks.rank == 0 and not self._abandoned.is_set():
                    _log.warning("%s; it goes to the run directory at once", error)
                return [None] * len(snapshots)
        return staged

    def _with_retries(self, snapshot: Snapshot, staged: StagedCheckpoint | None) -> Path:
        for seconds in (*RETRIES_SECONDS, None):
            try:
                path = save_checkpoint(
                    snapshot.folder,
                    snapshot.step,
                    **self._content_of(snapshot),
                    read_back=True,
                    staged=staged,
                )
            except CheckpointError:  # the pieces do not fit together: nor will they later
                raise
            except TrainingError as error:
                if seconds is None or self._abandoned.is_set():
                    raise
                if self._ranks.rank == 0:
                    _log.warning("%s; it is tried again in %.0f s", error, seconds)
                self._abandoned.wait(seconds)
            else:
                if staged is not None:
                    staged.remove()
                return path
        raise AssertionError("unreachable")

    def _content_of(self, snapshot: Snapshot) -> dict[str, Any]:
        """What is written of a snapshot, as `save_checkpoint` and `stage_checkpoint` take it."""
        return {
            "pieces": [
                replace(one, produce=partial(self._value, one.tensor)) for one in snapshot.pieces
            ],
            "model": snapshot.model,
            "counters": snapshot.counters,
            "attachments": snapshot.attachments,
            "group": self._group,
        }

    def _value(self, tensor: torch.Tensor) -> torch.Tensor:
        """What is about to be written, or compared; counted, for who waits."""
        if self._abandoned.is_set():
            raise Abandoned("the run ends")
        self._written += 1
        return tensor
