"""What a run does when something goes wrong: policies that the loop asks."""

from trainer.recovery.boundary import FaultBoundary
from trainer.recovery.guard import NonFiniteGuard
from trainer.recovery.heartbeat import Heartbeat
from trainer.recovery.lock import FolderLock, LockedFolder, RunLock, run_lock
from trainer.recovery.signals import StopSignals

__all__ = [
    "FaultBoundary",
    "FolderLock",
    "Heartbeat",
    "LockedFolder",
    "NonFiniteGuard",
    "RunLock",
    "StopSignals",
    "run_lock",
]
